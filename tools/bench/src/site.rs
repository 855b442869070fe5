//! A server that is measured: how requests to it are written, and the calls around a measurement:
//! make a queue, fill it, remove it.

use crate::http::{Answer, Connection};
use anyhow::{Context as _, bail};
use std::fmt::Write as _;
use std::rc::Rc;

/// Where it is, and what every request says.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    address: Rc<str>,
    headers: Rc<str>,
    /// Messages of a batch that fills a queue, at the most.
    fill_count_max: usize,
}

impl Site {
    /// A server at `host:port`. `headers` are lines `Name: value` that every request carries.
    pub(crate) fn new(
        address: &str,
        client_id: &str,
        project: Option<&str>,
        headers: &[String],
    ) -> Site {
        let mut all = format!(
            "host: {address}\r\nclient-id: {client_id}\r\naccept: application/json\r\n\
             content-type: application/json\r\n"
        );
        if let Some(project) = project {
            let _ = write!(all, "x-project-id: {project}\r\n");
        }
        for line in headers {
            let _ = write!(all, "{line}\r\n");
        }
        Site { address: address.into(), headers: all.into(), fill_count_max: 10 }
    }

    /// Fills queues by larger batches than every server takes.
    #[must_use]
    pub(crate) fn with_large_batches(self) -> Site {
        Site { fill_count_max: 200, ..self }
    }

    /// Connects to it.
    ///
    /// # Errors
    /// When nobody listens there.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(&self.address).await
    }

    /// Writes a request into `out`, in place of what is there. `extra` are more lines of the head.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        method: &str,
        path: &str,
        extra: &str,
        body: &[u8],
    ) {
        out.clear();
        for part in [method, " ", path, " HTTP/1.1\r\n", &self.headers, extra, "content-length: "] {
            out.extend_from_slice(part.as_bytes());
        }
        push_number(out, body.len());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
    }

    /// Makes a queue, in a mode where one is named. Returns the mode that the server says it has;
    /// `None` where it says nothing.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn create(
        &self,
        connection: &mut Connection,
        queue: &str,
        mode: Option<&str>,
    ) -> anyhow::Result<Option<String>> {
        let extra = mode.map_or_else(String::new, |mode| format!("marconi-durability: {mode}\r\n"));
        let answer = self.call(connection, "PUT", &path(queue), &extra).await?;
        if !matches!(answer.status, 201 | 204) {
            bail!("the server refuses to make the queue {queue}: {}", answer.summary());
        }
        Ok(answer.header("marconi-durability").map(str::to_owned))
    }

    /// Removes a queue with all that is in it.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn remove(
        &self,
        connection: &mut Connection,
        queue: &str,
    ) -> anyhow::Result<()> {
        let answer = self.call(connection, "DELETE", &path(queue), "").await?;
        if answer.status != 204 {
            bail!("the server refuses to remove the queue {queue}: {}", answer.summary());
        }
        Ok(())
    }

    async fn call<'a>(
        &self,
        connection: &'a mut Connection,
        method: &str,
        path: &str,
        extra: &str,
    ) -> anyhow::Result<Answer<'a>> {
        let mut request = Vec::new();
        self.write(&mut request, method, path, extra, b"");
        connection.ask(&request).await.with_context(|| format!("{method} {path}"))
    }

    /// Posts `count` messages, up to `batch_max` at once; `name` tells the queue of the n-th batch.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn fill(
        &self,
        batch_max: usize,
        name: impl Fn(usize) -> String,
        count: usize,
        size_bytes: usize,
        connections: usize,
    ) -> anyhow::Result<()> {
        let fits = (FILL_BYTES / (size_bytes + 40)).min(self.fill_count_max);
        let batch = fits.min(batch_max).max(1);
        let batches = count.div_ceil(batch);
        let full = document(batch, size_bytes, 0);
        let rest = document(count - batches.saturating_sub(1) * batch, size_bytes, 1);
        let connections = connections.min(batches.max(1));
        let next = std::cell::Cell::new(0);
        let post = async || {
            let mut connection = self.connect().await?;
            let mut request = Vec::new();
            loop {
                let number = next.replace(next.get() + 1);
                if number >= batches {
                    return anyhow::Ok(());
                }
                let body = if number + 1 == batches { &rest } else { &full };
                let path = messages_path(&name(number));
                self.write(&mut request, "POST", &path, "", body);
                let answer = connection.ask(&request).await.context("cannot fill a queue")?;
                if answer.status != 201 {
                    bail!("the server refuses a batch of {batch}: {}", answer.summary());
                }
            }
        };
        let all: Vec<_> = (0..connections).map(|_| Box::pin(post())).collect();
        join(all).await
    }
}

/// Bytes of a batch that fills a queue, at the most: below what servers take by default.
const FILL_BYTES: usize = 240 << 10;

/// Drives all to their end, whoever is ready first; the first error counts.
pub(crate) async fn join<F: Future<Output = anyhow::Result<()>> + Unpin>(
    mut all: Vec<F>,
) -> anyhow::Result<()> {
    std::future::poll_fn(|context| {
        let mut error = None;
        all.retain_mut(|one| match std::pin::Pin::new(one).poll(context) {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(ended) => {
                error = error.take().or(ended.err());
                false
            }
        });
        match error {
            Some(error) => std::task::Poll::Ready(Err(error)),
            None if all.is_empty() => std::task::Poll::Ready(Ok(())),
            None => std::task::Poll::Pending,
        }
    })
    .await
}

/// The path of a queue.
pub(crate) fn path(queue: &str) -> String {
    format!("/v1/queues/{queue}")
}

/// The path of its messages.
pub(crate) fn messages_path(queue: &str) -> String {
    format!("/v1/queues/{queue}/messages")
}

/// What a post of `batch` messages sends, each with a body of `size_bytes` bytes (2 or more). The
/// text differs from `seed` to `seed`, and does not compress well.
pub(crate) fn document(batch: usize, size_bytes: usize, seed: u64) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = crate::stats::Random::new(seed);
    let mut out = vec![b'['];
    for number in 0..batch {
        let before = if number > 0 { "," } else { "" };
        out.extend_from_slice(before.as_bytes());
        out.extend_from_slice(b"{\"ttl\":86400,\"body\":\"");
        out.extend((2..size_bytes).map(|_| LETTERS[random.below(64) as usize]));
        out.extend_from_slice(b"\"}");
    }
    out.push(b']');
    out
}

fn push_number(out: &mut Vec<u8>, number: usize) {
    if number >= 10 {
        push_number(out, number / 10);
    }
    out.push(b'0' + (number % 10) as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_say_their_length_and_who_asks() {
        let site = Site::new("h:1", "me", Some("p"), &["X-Auth-Token: t".to_owned()]);
        let mut out = b"old".to_vec();
        site.write(&mut out, "POST", "/x", "a: b\r\n", &[b'y'; 1234]);
        let text = String::from_utf8(out).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert_eq!(
            head,
            "POST /x HTTP/1.1\r\nhost: h:1\r\nclient-id: me\r\naccept: application/json\r\n\
             content-type: application/json\r\nx-project-id: p\r\nX-Auth-Token: t\r\na: b\r\n\
             content-length: 1234"
        );
        assert_eq!(body.len(), 1234);
    }

    #[test]
    fn documents_hold_bodies_of_the_size_asked_for() {
        let document = document(3, 256, 1);
        let all: Vec<serde_json::Value> = serde_json::from_slice(&document).expect("JSON");
        assert_eq!(all.len(), 3);
        for message in &all {
            assert_eq!(message["body"].to_string().len(), 256);
        }
        assert_ne!(document, super::document(3, 256, 2));
    }
}
