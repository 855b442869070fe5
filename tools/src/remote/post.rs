//! `marconi message post`: bodies from arguments or from standard input, gathered into batches.

use super::server::ServerOptions;
use super::time::ttl;
use crate::output::{Output, count};
use anyhow::{Context, bail};
use marconi_client::{NewMessage, Queue, RawValue};
use std::io::{self, BufRead, Read};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// A post is not made larger than servers take by default, in bytes.
const POST_SIZE_MAX: usize = 256 << 10;
/// A line that is longer is no message any more, in bytes.
const LINE_SIZE_MAX: u64 = 64 << 20;
/// How long a batch waits for more lines before it is posted as it is.
const FILL_TIME: Duration = Duration::from_millis(50);

/// What to post.
#[derive(Debug, clap::Args)]
pub(crate) struct PostOptions {
    /// The queue; it has to be there.
    queue: String,
    /// Bodies, JSON each; without any, each line of standard input is one.
    #[arg(value_name = "BODY", allow_negative_numbers = true)]
    bodies: Vec<String>,
    /// How long the messages live; servers take 60s to 14d unless configured otherwise.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = ttl)]
    ttl: Duration,
    /// Messages in a request at most: those of one request are stored all or not at all.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Take bodies as text, whatever they look like, and post them as JSON strings.
    #[arg(long)]
    text: bool,
    #[command(flatten)]
    server: ServerOptions,
}

pub(super) async fn run(options: &PostOptions, output: &mut Output) -> anyhow::Result<ExitCode> {
    let queue = options.server.client()?.queue(&options.queue);
    let mut batches = Batches::new(queue, options);
    if !options.bodies.is_empty() {
        // All are looked at before the first is posted.
        let bodies: Vec<NewMessage> = (1..)
            .zip(&options.bodies)
            .map(|(number, body)| {
                options.message(body).with_context(|| format!("body {number} cannot be posted"))
            })
            .collect::<anyhow::Result<_>>()?;
        for body in bodies {
            batches.add(body, output).await?;
        }
        batches.post(output).await?;
        return Ok(ExitCode::SUCCESS);
    }
    batches.show_ids = output.json;
    let mut lines = lines(options.batch as usize)?;
    let mut wait = None;
    loop {
        let line = match wait {
            None => lines.recv().await,
            Some(deadline) => match timeout_at(deadline, lines.recv()).await {
                Ok(line) => line,
                Err(_) => {
                    batches.post(output).await?;
                    wait = None;
                    continue;
                }
            },
        };
        let Some(line) = line else { break };
        let message = match line.context("cannot read standard input") {
            // Blank lines are nothing in JSON, but a text may be empty.
            Ok(line) if !options.text && line.text.trim().is_empty() => continue,
            Ok(Line { number, text }) => options
                .message(&text)
                .with_context(|| format!("line {number} of standard input cannot be posted")),
            Err(error) => Err(error),
        };
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                // All before it is posted, so that one can go on from there.
                batches.post(output).await?;
                return Err(error.context(batches.so_far()));
            }
        };
        batches.add(message, output).await?;
        wait = if batches.messages.is_empty() {
            None
        } else {
            wait.or_else(|| Some(Instant::now() + FILL_TIME))
        };
    }
    batches.post(output).await?;
    if !output.json {
        let (messages, requests) = (batches.posted_count, batches.request_count);
        let noun = if requests == 1 { "request" } else { "requests" };
        let text = format!("{} messages in {} {noun}", count(messages), count(requests));
        output.line(text)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl PostOptions {
    fn message(&self, text: &str) -> anyhow::Result<NewMessage> {
        if self.text {
            return Ok(NewMessage::new(self.ttl, text)?);
        }
        match RawValue::from_string(text.to_owned()) {
            Ok(body) => Ok(NewMessage::raw(self.ttl, body)),
            Err(cause) => bail!(
                "it is no JSON (at column {}); with --text it is posted as a text",
                cause.column()
            ),
        }
    }
}

/// Messages on their way.
struct Batches {
    queue: Queue,
    count_max: usize,
    messages: Vec<NewMessage>,
    /// Of the request they would make, in bytes.
    size: usize,
    show_ids: bool,
    posted_count: u64,
    request_count: u64,
}

impl Batches {
    fn new(queue: Queue, options: &PostOptions) -> Batches {
        Batches {
            queue,
            count_max: options.batch as usize,
            messages: Vec::new(),
            size: 2,
            show_ids: true,
            posted_count: 0,
            request_count: 0,
        }
    }

    /// Adds a message, and posts what is full.
    async fn add(&mut self, message: NewMessage, output: &mut Output) -> anyhow::Result<()> {
        if self.size + message.size() > POST_SIZE_MAX {
            self.post(output).await?;
        }
        self.size += message.size();
        self.messages.push(message);
        if self.messages.len() >= self.count_max {
            self.post(output).await?;
        }
        Ok(())
    }

    /// Posts what was gathered, if anything was.
    async fn post(&mut self, output: &mut Output) -> anyhow::Result<()> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let posted = self.queue.post(&self.messages).await.with_context(|| self.so_far())?;
        self.posted_count += self.messages.len() as u64;
        self.request_count += 1;
        self.messages.clear();
        self.size = 2;
        if self.show_ids {
            for message in &posted.messages {
                if output.json {
                    let (id, href) = (&message.id, &message.href);
                    output.document(&serde_json::json!({"id": id, "href": href}))?;
                } else {
                    output.line(&message.id)?;
                }
            }
            output.flush()?;
        }
        Ok(())
    }

    /// What a failure leaves behind, for people.
    fn so_far(&self) -> String {
        match self.posted_count {
            0 => "nothing was posted".to_owned(),
            1 => "the first message was posted".to_owned(),
            number => format!("the first {number} messages were posted"),
        }
    }
}

/// A line of standard input.
struct Line {
    /// From 1 on.
    number: u64,
    text: String,
}

/// The lines of standard input, of which `count_max` wait at most.
fn lines(count_max: usize) -> io::Result<mpsc::Receiver<io::Result<Line>>> {
    let (sender, lines) = mpsc::channel(count_max.min(1000));
    // Nobody waits for this thread: what it reads from may never end, and it holds nothing.
    thread::Builder::new().name("marconi-lines".to_owned()).spawn(move || {
        let mut input = io::stdin().lock();
        let mut number = 0;
        loop {
            number += 1;
            let line = read_line(&mut input, LINE_SIZE_MAX, number);
            let is_last = !matches!(line, Ok(Some(_)));
            let Some(line) = line.transpose() else { return };
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(lines)
}

/// The next line without its end; `None` behind the last one.
fn read_line(input: &mut impl BufRead, size_max: u64, number: u64) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let size = input.take(size_max + 1).read_until(b'\n', &mut bytes)?;
    if size == 0 {
        return Ok(None);
    }
    if size as u64 > size_max {
        let text = format!("line {number} is longer than {size_max} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        let text = format!("line {number} is no UTF-8");
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    Ok(Some(Line { number, text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_without_their_ends_and_up_to_a_bound() {
        let mut input = &b"1\r\n\ntwo\nlonger than ten\n"[..];
        let mut next = || read_line(&mut input, 10, 7);
        for expected in ["1", "", "two"] {
            assert_eq!(next().expect("a line").expect("a line").text, expected);
        }
        let error = next().err().expect("it is too long").to_string();
        assert_eq!(error, "line 7 is longer than 10 bytes");
        assert!(read_line(&mut &b""[..], 10, 1).expect("the end").is_none());
        assert!(read_line(&mut &b"last"[..], 10, 1).expect("a line").is_some());
        assert!(read_line(&mut &b"\xff\n"[..], 10, 1).is_err());
    }
}
