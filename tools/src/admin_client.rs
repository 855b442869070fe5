//! A small client of a server's admin API: asks for a document, gives it back. Knows HTTP and JSON,
//! and not what any document means.

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::net::TcpStream;

/// Where a server has its admin API when nobody says otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8889";
/// How long a connection may take, and the answer to a GET. A POST may be long work.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The admin API of one server. Each request has a connection of its own: they are few.
#[derive(Debug, Clone)]
pub(crate) struct AdminClient {
    /// Without a slash at its end.
    url: String,
    /// Host and port.
    authority: String,
}

impl AdminClient {
    /// The admin API at a URL such as [`DEFAULT_URL`].
    ///
    /// # Errors
    /// When it is no such URL: the admin API speaks HTTP without TLS.
    pub(crate) fn new(url: &str) -> anyhow::Result<AdminClient> {
        let refuse = || anyhow!("{url:?} is no URL of an admin API such as {DEFAULT_URL}");
        let uri: Uri = url.parse().map_err(|_| refuse())?;
        if uri.scheme_str() == Some("https") {
            bail!("{url} begins with https, but admin APIs speak plain HTTP: write http://");
        }
        let Some(host) = uri.host().filter(|_| uri.scheme_str() == Some("http")) else {
            return Err(refuse());
        };
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        Ok(AdminClient { url: url.trim_end_matches('/').to_owned(), authority })
    }

    /// The URL it asks.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The document at a path such as `/stats`.
    ///
    /// # Errors
    /// When the server cannot be reached, takes longer than ten seconds, or refuses: all name the URL.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = tokio::time::timeout(TIMEOUT, self.ask(Method::GET, path)).await;
        answer.unwrap_or_else(|_| {
            Err(anyhow!("{}{path} did not answer within {} s", self.url, TIMEOUT.as_secs()))
        })
    }

    /// Has something done, such as `/checkpoint`, and gives the answer; however long that takes.
    ///
    /// # Errors
    /// As [`AdminClient::get`], but for the time.
    pub(crate) async fn post(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::POST, path).await
    }

    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Value> {
        let target = format!("{}{path}", self.url);
        let connect = tokio::time::timeout(TIMEOUT, TcpStream::connect(&self.authority));
        let stream = connect.await.map_err(anyhow::Error::from).and_then(|stream| Ok(stream?));
        let stream = stream.with_context(|| {
            format!("cannot reach {target} (does a server run there, with that as admin_listen?)")
        })?;
        let (status, body) = exchange(stream, &method, &target, &self.authority)
            .await
            .with_context(|| format!("{method} {target} got no answer"))?;
        let document: Value = serde_json::from_slice(&body).with_context(|| {
            format!("{target} answers {status} without JSON (is this the admin API's address?)")
        })?;
        if !status.is_success() {
            let why = document["error"].as_str().unwrap_or("without saying why");
            bail!("{method} {target} was refused with {status}: {why}");
        }
        Ok(document)
    }
}

async fn exchange(
    stream: TcpStream,
    method: &Method,
    target: &str,
    authority: &str,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let uri: Uri = target.parse()?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", authority)
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    // The sender goes with the answer, and without one the connection ends.
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::Ok((status, body))
    };
    // What went wrong with the connection, the answer tells too.
    let (answer, _) = tokio::join!(answer, connection);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that gives one answer to one request, and what was asked.
    async fn serve(answer: &'static str) -> (AdminClient, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it has one");
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.expect("a request"));
            }
            stream.write_all(answer.as_bytes()).await.expect("it reads");
            String::from_utf8(asked).expect("text")
        });
        (AdminClient::new(&format!("http://{address}/")).expect("a URL"), served)
    }

    #[tokio::test]
    async fn documents_come_back_and_refusals_say_why_and_where() {
        let (client, served) = serve("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}").await;
        assert_eq!(client.get("/queues?limit=3").await.expect("JSON")["a"], 1);
        let asked = served.await.expect("served");
        assert!(asked.starts_with("GET /queues?limit=3 HTTP/1.1\r\n"), "{asked}");

        let answer =
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 22\r\n\r\n{\"error\":\"limit is 0\"}\n";
        let (client, _) = serve(answer).await;
        let error = client.get("/queues").await.expect_err("refused").to_string();
        let expected =
            format!("GET {}/queues was refused with 400 Bad Request: limit is 0", client.url());
        assert_eq!(error, expected);

        let (client, _) = serve("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno").await;
        let error = format!("{:#}", client.get("/stats").await.expect_err("no JSON"));
        assert!(error.contains("/stats answers 404 Not Found without JSON"), "{error}");
    }

    #[tokio::test]
    async fn nobody_there_is_told_with_the_url() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it has one");
        drop(listener);
        let client = AdminClient::new(&format!("http://{address}")).expect("a URL");
        let error = format!("{:#}", client.get("/stats").await.expect_err("nobody"));
        assert!(error.starts_with(&format!("cannot reach http://{address}/stats (")), "{error}");
        assert!(error.contains("refused"), "{error}");
    }

    #[test]
    fn other_urls_are_refused() {
        for url in ["https://x:1", "ftp://x", "localhost:8889", "", "/stats"] {
            let error = AdminClient::new(url).expect_err("no URL of ours").to_string();
            assert!(error.contains(url) && error.contains("http://"), "{error}");
        }
        let client = AdminClient::new("http://[::1]:8889").expect("a URL");
        assert_eq!(client.authority, "[::1]:8889");
    }
}
