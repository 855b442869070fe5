//! What is measured of the API, each case by its name: `documents` takes the time, `instructions`
//! counts. Knows neither of them, no store and no socket.

use bytes::Bytes;
use marconi_engine::{ClaimId, Lsn, Marker, MessageId, QueueId, Seq};
use marconi_server::api::limits::Limits;
use marconi_server::api::query::Query;
use marconi_server::api::v1::{self, PageAsked};
use marconi_server::api::{json, shape};
use marconi_server::http::route::{self, Route};
use marconi_server::store::{Message, Page};
use std::fmt;
use std::hint::black_box;

/// One thing that is measured.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Stands ready; each call is a run.
    pub(crate) open: fn() -> Box<dyn FnMut()>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All cases.
pub(crate) const CASES: [Case; 11] = [
    Case { name: "read a post of 1 message of 1 KiB", open: || read_post(1) },
    Case { name: "read a post of 20 messages of 1 KiB", open: || read_post(20) },
    Case { name: "read a claim", open: read_claim },
    Case { name: "read JSON of 1 KiB, many small values", open: read_values },
    Case { name: "write the answer to a post of 1", open: || write_posted(1) },
    Case { name: "write the answer to a post of 20", open: || write_posted(20) },
    Case { name: "write a page of 20 messages of 1 KiB", open: write_page },
    Case { name: "write a claim of 10 messages of 1 KiB", open: write_claim },
    Case { name: "read the query of a page", open: read_query },
    Case { name: "read 20 ids of a query", open: read_ids },
    Case { name: "find a route, and read its id", open: find_route },
];

const QUEUE: &str = "jobs";

fn id(number: u64) -> MessageId {
    MessageId { queue: QueueId(4096), seq: Seq(1_000_000 + number) }
}

/// A document of 1 KiB: one string.
fn body() -> String {
    format!("\"{}\"", "x".repeat(1022))
}

fn read_post(count: usize) -> Box<dyn FnMut()> {
    let message = format!("{{\"ttl\": 300, \"body\": {}}}", body());
    let document = Bytes::from(format!("[{}]", vec![message; count].join(", ")));
    let limits = Limits::default();
    Box::new(move || {
        let messages = shape::messages(black_box(&document), &limits);
        black_box(messages).expect("a good document");
    })
}

fn read_claim() -> Box<dyn FnMut()> {
    let document = Bytes::from_static(b"{\"ttl\": 300, \"grace\": 60}");
    let limits = Limits::default();
    Box::new(move || {
        let times = shape::claim(black_box(&document), &limits);
        black_box(times).expect("a good document");
    })
}

fn read_values() -> Box<dyn FnMut()> {
    let one = "{\"id\": 31, \"name\": \"n\\u00e9e\", \"is\": [true, null, -1.5e3]}";
    let document = format!("[{}]", vec![one; 1024 / one.len()].join(", "));
    Box::new(move || {
        let text = black_box(document.as_bytes());
        let value = json::Scanner::new(text, 100).and_then(|mut scanner| scanner.value());
        black_box(value).expect("a good document");
    })
}

fn write_posted(count: u64) -> Box<dyn FnMut()> {
    let ids: Vec<MessageId> = (0..count).map(id).collect();
    Box::new(move || {
        black_box(v1::posted(black_box(QUEUE), black_box(&ids)));
    })
}

fn messages(count: u64, claim: Option<ClaimId>) -> Vec<Message> {
    let body = Bytes::from(body());
    let message =
        |number| Message { id: id(number), ttl_s: 300, age_s: 17, body: body.clone(), claim };
    (0..count).map(message).collect()
}

fn write_page() -> Box<dyn FnMut()> {
    let next = Marker { queue: QueueId(4096), seq: Seq(1_000_019) };
    let page = Page { messages: messages(20, None), next: Some(next) };
    let asked = PageAsked { limit: Some(20), ..PageAsked::default() };
    Box::new(move || {
        black_box(v1::page(black_box(QUEUE), black_box(&page), asked));
    })
}

fn write_claim() -> Box<dyn FnMut()> {
    let claim = ClaimId(Lsn(1 << 30));
    let messages = messages(10, Some(claim));
    Box::new(move || {
        black_box(v1::messages(black_box(QUEUE), black_box(&messages), Some(claim)));
    })
}

fn read_query() -> Box<dyn FnMut()> {
    let marker = Marker { queue: QueueId(4096), seq: Seq(1_000_019) };
    let text = format!("limit=20&echo=true&include_claimed=false&marker={marker}");
    Box::new(move || {
        let query = Query::new(Some(black_box(&text)));
        let limit = query.integer("limit").expect("a number");
        let flags = ["echo", "include_claimed"].map(|name| query.boolean(name).expect("a boolean"));
        let marker = query.text("marker").map(|text| text.parse::<Marker>().expect("a marker"));
        black_box((limit, flags, marker));
    })
}

fn read_ids() -> Box<dyn FnMut()> {
    let ids: Vec<String> = (0..20).map(|number| id(number).to_string()).collect();
    let text = format!("ids={}", ids.join(","));
    Box::new(move || {
        let ids = Query::new(Some(black_box(&text))).ids().expect("there are some");
        for id in ids {
            black_box(id.parse::<MessageId>().expect("an id"));
        }
    })
}

fn find_route() -> Box<dyn FnMut()> {
    let text = format!("/v1/queues/{QUEUE}/messages/{}", id(7));
    Box::new(move || {
        let path = route::decode(black_box(&text));
        let Some(Route::Message(queue, id)) = Route::of(&path) else {
            panic!("{path} is the path of a message");
        };
        black_box((queue, id.parse::<MessageId>().expect("an id")));
    })
}
