//! HTTP/2 with prior knowledge, and TLS with either protocol: a message's life over each.

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Method, Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use marconi_tests::binary::{Binary, DEADLINE};
use marconi_tests::wire::{CLIENT_ID, MESSAGE, Wire, assert_well};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// A certificate of its own for `localhost`, good for a hundred years; its key protects nothing.
const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/abuse/localhost.crt.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/abuse/localhost.key.pem");

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    async fn http1<T>(io: T) -> anyhow::Result<Sender>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        tokio::spawn(connection);
        Ok(Sender::Http1(sender))
    }

    async fn http2<T>(io: T) -> anyhow::Result<Sender>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
        tokio::spawn(connection);
        Ok(Sender::Http2(sender))
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: &str,
    ) -> anyhow::Result<(Response<()>, serde_json::Value)> {
        let uri = match self {
            Sender::Http1(_) => path.to_owned(),
            Sender::Http2(_) => format!("http://localhost{path}"),
        };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "localhost")
            .header("client-id", CLIENT_ID)
            .body(Full::new(Bytes::from(body.to_owned())))?;
        let response: Response<Incoming> = match self {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => sender.send_request(request).await?,
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        let document = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
        Ok((Response::from_parts(head, ()), document))
    }

    /// A message's life: posted, claimed, deleted.
    async fn work(&mut self) -> anyhow::Result<()> {
        let (made, _) = self.send(Method::PUT, "/v1/queues/jobs", "").await?;
        assert!(made.status().is_success(), "{made:?}");
        let (posted, _) = self.send(Method::POST, "/v1/queues/jobs/messages", MESSAGE).await?;
        assert_eq!(posted.status(), StatusCode::CREATED);
        let claim = r#"{"ttl": 60, "grace": 60}"#;
        let (claimed, messages) = self.send(Method::POST, "/v1/queues/jobs/claims", claim).await?;
        assert_eq!(claimed.status(), StatusCode::CREATED);
        assert_eq!(messages[0]["body"], serde_json::json!({ "n": 1 }));
        let link = messages[0]["href"].as_str().context("a link")?;
        let (deleted, _) = self.send(Method::DELETE, link, "").await?;
        assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
        Ok(())
    }
}

/// A connection under TLS that offers these protocols, and what the server chose.
async fn shake_hands(
    address: SocketAddr,
    offered: &[&str],
) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(CERTIFICATE)?)?;
    let mut config =
        ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost")?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
}

fn chosen(stream: &TlsStream<TcpStream>) -> Option<&[u8]> {
    stream.get_ref().1.alpn_protocol()
}

/// Runs what a test does within the deadline.
fn run(test: impl Future<Output = anyhow::Result<()>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(DEADLINE, test).await.expect("in time") });
    outcome.unwrap_or_else(|cause| panic!("{cause:#}"));
}

#[test]
fn http2_is_spoken_to_clients_that_begin_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Binary::start(folder.path(), &["--http2-streams-max=16"]);
    let address = server.address;
    run(async move {
        let mut sender = Sender::http2(TcpStream::connect(address).await?).await?;
        sender.work().await?;
        // More at once than the server allows: they take turns on the one connection.
        let Sender::Http2(sender) = sender else { unreachable!("made so") };
        let many: Vec<_> = (0..100)
            .map(|number| {
                let mut sender = Sender::Http2(sender.clone());
                let path = format!("/v1/queues/q{number}");
                tokio::spawn(async move { sender.send(Method::PUT, &path, "").await })
            })
            .collect();
        for one in many {
            let (made, _) = one.await??;
            assert_eq!(made.status(), StatusCode::CREATED);
        }
        Ok(())
    });
    assert_well(&server);
    server.stop();
}

#[test]
fn under_tls_the_client_chooses_the_protocol() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = format!("--tls-certificate-file={CERTIFICATE}");
    let key = format!("--tls-key-file={KEY}");
    let server = Binary::start(folder.path(), &[&certificate, &key, "--header-timeout-ms=500ms"]);
    assert!(server.start_line.contains("https://"), "{}", server.start_line);
    let address = server.address;
    run(async move {
        let stream = shake_hands(address, &["h2", "http/1.1"]).await?;
        assert_eq!(chosen(&stream), Some(&b"h2"[..]));
        Sender::http2(stream).await?.work().await?;
        let stream = shake_hands(address, &["http/1.1"]).await?;
        assert_eq!(chosen(&stream), Some(&b"http/1.1"[..]));
        Sender::http1(stream).await?.work().await?;
        let stream = shake_hands(address, &[]).await?;
        assert_eq!(chosen(&stream), None);
        Sender::http1(stream).await?.work().await?;
        shake_hands(address, &["spdy/3"]).await.expect_err("nobody speaks that any more");
        Ok(())
    });
    // No handshake, or none that ends: cut, without an answer in the clear.
    let mut plain = Wire::to(server.address);
    plain.send(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(!plain.rest().contains("HTTP/1.1"));
    let mut silent = Wire::to(server.address);
    assert_eq!(silent.rest(), "");
    assert_eq!(server.metric("marconi_connections_panicked_total"), 0);
    server.stop();
}
