//! Lists that come page by page: where they go on, and when they are over. Knows no sockets.

use crate::client::Client;
use crate::documents::{Message, QueueEntry, WireLink, WireMessages, WireQueues};
use crate::error::Error;
use crate::send::{Answer, Ask};
use hyper::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::fmt::Write;

/// What stands for itself in a path and in a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as a part of a path or of a query.
pub(crate) fn escape(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, ESCAPED)
}

/// A query string, built name by name.
#[derive(Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        let sign = if self.0.is_empty() { '?' } else { '&' };
        // Writing to a string does not fail.
        let _ = write!(self.0, "{sign}{name}={}", escape(value));
    }

    pub(crate) fn behind(&self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}

/// The queues of a project, page by page; made by [`Client::queues`].
#[derive(Debug, Clone)]
pub struct QueuePages {
    client: Client,
    next: String,
}

impl QueuePages {
    pub(crate) fn new(
        client: Client,
        limit: Option<u32>,
        marker: Option<&str>,
        detailed: bool,
    ) -> QueuePages {
        let mut query = Query::default();
        if let Some(limit) = limit {
            query.add("limit", &limit.to_string());
        }
        if detailed {
            query.add("detailed", "true");
        }
        if let Some(marker) = marker {
            query.add("marker", marker);
        }
        QueuePages { client, next: query.behind("/v1/queues") }
    }

    /// The next page; `None` once there are no more.
    ///
    /// # Errors
    /// Those of any request. The same page comes again when it is asked for again.
    pub async fn next(&mut self) -> Result<Option<Vec<QueueEntry>>, Error> {
        let Some(answer) = page(&self.client, &self.next).await? else { return Ok(None) };
        let page: WireQueues = answer.document()?;
        self.next = WireLink::next(page.links).map_err(|what| answer.malformed(what))?;
        Ok(Some(page.queues).filter(|queues| !queues.is_empty()))
    }
}

/// The messages of a queue, page by page; made by [`Queue::messages`].
///
/// The end is where it goes on: asked again later, it gives what was posted meanwhile.
///
/// [`Queue::messages`]: crate::Queue::messages
#[derive(Debug, Clone)]
pub struct MessagePages {
    client: Client,
    next: String,
}

impl MessagePages {
    pub(crate) fn new(client: Client, next: String) -> MessagePages {
        MessagePages { client, next }
    }

    /// The next page; `None` while there are no more, or no such queue.
    ///
    /// # Errors
    /// Those of any request. The same page comes again when it is asked for again.
    pub async fn next(&mut self) -> Result<Option<Vec<Message>>, Error> {
        let Some(answer) = page(&self.client, &self.next).await? else { return Ok(None) };
        let page: WireMessages = answer.document()?;
        self.next = WireLink::next(page.links).map_err(|what| answer.malformed(what))?;
        Ok(Some(page.messages).filter(|messages| !messages.is_empty()))
    }

    /// Where it goes on, to be kept and given to [`ListOptions::marker`]; `None` before the first
    /// message.
    ///
    /// [`ListOptions::marker`]: crate::ListOptions::marker
    pub fn marker(&self) -> Option<String> {
        let (_, query) = self.next.split_once('?')?;
        let marker = query.split('&').find_map(|pair| pair.strip_prefix("marker="))?;
        Some(percent_decode_str(marker).decode_utf8_lossy().into_owned())
    }
}

/// The page at a link; `None` where it is empty.
async fn page(client: &Client, link: &str) -> Result<Option<Answer>, Error> {
    let answer = client.call(Ask::new(Method::GET, link)).await?.of(&[200, 204])?;
    Ok(Some(answer).filter(|answer| answer.status == 200))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        let mut query = Query::default();
        assert_eq!(query.behind("/p"), "/p");
        query.add("limit", "5");
        query.add("marker", "a b&c,d/é");
        assert_eq!(query.behind("/p"), "/p?limit=5&marker=a%20b%26c%2Cd%2F%C3%A9");
    }
}
