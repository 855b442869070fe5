//! One connection that does actions: writes requests, checks every status, reads links.

use super::tally::{Request, Tally};
use crate::http::Connection;
use crate::site::Site;
use crate::workload::{Action, Script, Way};
use anyhow::bail;
use std::rc::Rc;
use std::time::Instant;

pub(super) struct Worker {
    site: Site,
    script: Rc<Script>,
    way: Way,
    connection: Connection,
    request: Vec<u8>,
    links: Vec<String>,
    /// The page that a listing reads next, with the queue it is of.
    next_page: Option<(usize, String)>,
}

/// What a claim asks for: time enough that none runs out in a measurement.
const CLAIM: &[u8] = b"{\"ttl\":3600,\"grace\":3600}";
/// So many errors end a measurement: it says nothing any more.
const ERRORS_MAX: u64 = 1000;

impl Worker {
    pub(super) async fn new(
        site: Site,
        script: Rc<Script>,
        number: usize,
    ) -> anyhow::Result<Worker> {
        let connection = site.connect().await?;
        Ok(Worker {
            site,
            script,
            way: Way::new(number),
            connection,
            request: Vec::with_capacity(4 << 10),
            links: Vec::new(),
            next_page: None,
        })
    }

    /// Does the next action. A broken connection is an error that counts, and is made anew.
    pub(super) async fn act(&mut self, tally: &Tally) -> anyhow::Result<()> {
        let script = self.script.clone();
        let (action, queue) = self.way.next(&script);
        let name = script.queues.name(queue);
        let done = match action {
            Action::Post { batch, documents } => {
                let document = &documents[self.way.below(documents.len())];
                self.post(&name, document, *batch, tally).await
            }
            Action::Work { limit } => self.work(&name, *limit, tally).await,
            Action::List { limit, follow } => self.list(queue, &name, *limit, *follow, tally).await,
            Action::Stats => self.stats(&name, tally).await,
        };
        if let Err(error) = done {
            tally.fail(|| format!("{error:#}"));
            self.connection = self.site.connect().await?;
        }
        if tally.errors() >= ERRORS_MAX {
            let first = tally.figures().error.unwrap_or_default();
            bail!("{ERRORS_MAX} requests failed; the first one: {first}");
        }
        Ok(())
    }

    async fn post(
        &mut self,
        queue: &str,
        document: &[u8],
        batch: usize,
        tally: &Tally,
    ) -> anyhow::Result<()> {
        let path = crate::site::messages_path(queue);
        self.site.write(&mut self.request, "POST", &path, "", document);
        let began = Instant::now();
        let answer = self.connection.ask(&self.request).await?;
        match answer.status {
            201 => tally.request(Request::Post, began, batch),
            _ => tally.fail(|| format!("POST {path}: {}", answer.summary())),
        }
        Ok(())
    }

    async fn work(&mut self, queue: &str, limit: usize, tally: &Tally) -> anyhow::Result<()> {
        let path = format!("/v1/queues/{queue}/claims?limit={limit}");
        self.site.write(&mut self.request, "POST", &path, "", CLAIM);
        let began = Instant::now();
        let answer = self.connection.ask(&self.request).await?;
        self.links.clear();
        match answer.status {
            201 => {
                self.links.extend(links(answer.body));
                tally.request(Request::Claim, began, self.links.len());
            }
            204 => {
                tally.request(Request::Claim, began, 0);
                if self.script.ends_dry {
                    tally.run_dry();
                }
            }
            _ => tally.fail(|| format!("POST {path}: {}", answer.summary())),
        }
        for link in &self.links {
            self.site.write(&mut self.request, "DELETE", link, "", b"");
            let began = Instant::now();
            let answer = self.connection.ask(&self.request).await?;
            match answer.status {
                204 => tally.request(Request::Delete, began, 1),
                _ => tally.fail(|| format!("DELETE {link}: {}", answer.summary())),
            }
        }
        Ok(())
    }

    async fn list(
        &mut self,
        queue: usize,
        name: &str,
        limit: usize,
        follow: bool,
        tally: &Tally,
    ) -> anyhow::Result<()> {
        let next = self.next_page.take().filter(|(of, _)| *of == queue);
        let path = next.map_or_else(
            || format!("/v1/queues/{name}/messages?limit={limit}&echo=true"),
            |(_, path)| path,
        );
        self.site.write(&mut self.request, "GET", &path, "", b"");
        let began = Instant::now();
        let answer = self.connection.ask(&self.request).await?;
        match answer.status {
            200 => {
                tally.request(Request::List, began, limit);
                self.next_page = next_link(answer.body).map(|next| (queue, next));
            }
            204 => {
                tally.request(Request::List, began, 0);
                if follow {
                    self.next_page = Some((queue, path));
                }
            }
            _ => tally.fail(|| format!("GET {path}: {}", answer.summary())),
        }
        Ok(())
    }

    async fn stats(&mut self, queue: &str, tally: &Tally) -> anyhow::Result<()> {
        let path = format!("/v1/queues/{queue}/stats");
        self.site.write(&mut self.request, "GET", &path, "", b"");
        let began = Instant::now();
        let answer = self.connection.ask(&self.request).await?;
        match answer.status {
            200 => tally.request(Request::Stats, began, 0),
            _ => tally.fail(|| format!("GET {path}: {}", answer.summary())),
        }
        Ok(())
    }
}

const HREF: &[u8] = b"\"href\"";

/// The links of a claim's messages. A body cannot hold the word: its quotes would be escaped, and
/// the bodies are of our making.
fn links(body: &[u8]) -> impl Iterator<Item = String> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let at = find(rest, HREF)? + HREF.len();
        let (link, left) = quoted(&rest[at..])?;
        rest = left;
        Some(link)
    })
}

/// The link behind `"rel": "next"`: it stands at the end of a page.
fn next_link(body: &[u8]) -> Option<String> {
    let end = &body[body.len().saturating_sub(512)..];
    let at = end.windows(7).rposition(|seven| seven == b"\"links\"")?;
    links(&end[at..]).next()
}

/// The text between the next two quotes behind a colon, and what follows it.
fn quoted(bytes: &[u8]) -> Option<(String, &[u8])> {
    let start = bytes.iter().position(|byte| *byte == b'"')? + 1;
    let size = bytes[start..].iter().position(|byte| *byte == b'"')?;
    let text = std::str::from_utf8(&bytes[start..start + size]).ok()?;
    Some((text.to_owned(), &bytes[start + size + 1..]))
}

/// Where `word` begins, looking only where its first byte stands.
fn find(bytes: &[u8], word: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes[from..].iter().position(|byte| *byte == word[0])?;
        if bytes[at..].starts_with(word) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_from_claims_and_pages() {
        let claim = br#"[{"href": "/v1/queues/q/messages/a?claim_id=c", "ttl": 1, "body": "x"},
            {"href":"/v1/queues/q/messages/b?claim_id=c","body":"y"}]"#;
        let found: Vec<String> = links(claim).collect();
        assert_eq!(
            found,
            ["/v1/queues/q/messages/a?claim_id=c", "/v1/queues/q/messages/b?claim_id=c"]
        );
        let page = br#"{"messages": [{"href": "/m/a", "body": "x"}],
            "links": [{"rel": "next", "href": "/v1/queues/q/messages?marker=m"}]}"#;
        assert_eq!(next_link(page).as_deref(), Some("/v1/queues/q/messages?marker=m"));
        assert_eq!(next_link(br#"{"messages": [{"href": "/m/a"}]}"#), None);
        assert_eq!(links(b"{}").count(), 0);
        assert_eq!(links(b"\"href\": \"/cut").count(), 0);
    }
}
