//! One speaker, many listeners: everyone hears everything, nobody takes anything away.
//!
//! Claims share messages out; *listing* does not. Each listener reads the queue at its own pace and
//! keeps its own place in it: the `next` link of its last page. Who asks with that link again gets
//! what came since, and nothing twice. Messages leave when their ttl is over, not when they are read.
//!
//! ```text
//! cargo run --release -p marconi-server --example broadcast
//! ```
//!
//! It starts a server in this process. To use one that runs, give `-- --url http://127.0.0.1:8888`.

mod support;

use serde_json::{Value, json};
use support::{Client, Result, Server};

const MORNING: [&str; 3] = ["doors open", "coffee is ready", "keynote in hall 1"];
const NOON: [&str; 3] = ["lunch", "hall 2 moved", "last bus at 22:00"];

fn main() -> Result<()> {
    let server = Server::from_arguments()?;
    let speaker = server.client(1);
    speaker.send("DELETE", "/v1/queues/news", Value::Null)?;
    speaker.send("PUT", "/v1/queues/news", Value::Null)?;
    let mut listeners = [
        Listener::new("dora", server.client(2)),
        Listener::new("emil", server.client(3)),
        Listener::new("fay", server.client(4)),
    ];

    announce(&speaker, &MORNING)?;
    let [dora, emil, _] = &mut listeners;
    dora.listen()?;
    emil.listen()?;
    announce(&speaker, &NOON)?;
    // Fay comes late and still hears it from the beginning; the others go on where they were.
    for listener in &mut listeners {
        listener.listen()?;
        listener.listen()?;
    }

    let all = [MORNING, NOON].concat();
    for listener in &listeners {
        if listener.heard != all {
            return Err(format!("{} heard {:?}", listener.name, listener.heard).into());
        }
    }
    let (_, stats) = speaker.send("GET", "/v1/queues/news/stats", Value::Null)?;
    if stats["messages"]["free"] != all.len() {
        return Err(format!("listening took something away: {stats}").into());
    }
    println!("all {} heard all {} once, in order; all are still there", listeners.len(), all.len());
    Ok(())
}

fn announce(speaker: &Client, news: &[&str]) -> Result<()> {
    let messages: Vec<Value> = news.iter().map(|text| json!({"ttl": 300, "body": text})).collect();
    speaker.send("POST", "/v1/queues/news/messages", Value::Array(messages))?;
    println!("speaker: {}", news.join(", "));
    Ok(())
}

/// Someone with a place in the queue.
struct Listener {
    name: &'static str,
    client: Client,
    /// What to ask for next.
    next: String,
    heard: Vec<String>,
}

impl Listener {
    fn new(name: &'static str, client: Client) -> Listener {
        let next = "/v1/queues/news/messages?limit=2".to_owned();
        Listener { name, client, next, heard: Vec::new() }
    }

    /// Reads page after page until one is empty.
    fn listen(&mut self) -> Result<()> {
        let before = self.heard.len();
        loop {
            // An empty page is 204, without a document: the link of the page before stays good.
            let (_, page) = self.client.send("GET", &self.next, Value::Null)?;
            let Some(messages) = page["messages"].as_array() else { break };
            for message in messages {
                self.heard.push(message["body"].as_str().ok_or("news are text")?.to_owned());
            }
            self.next = page["links"][0]["href"].as_str().ok_or("no next link")?.to_owned();
        }
        let new = &self.heard[before..];
        let news = if new.is_empty() { "nothing new".to_owned() } else { new.join(", ") };
        println!("  {:4} hears: {news}", self.name);
        Ok(())
    }
}
