//! What the examples share: a server to talk to, and a client in forty lines of plain sockets.

use marconi_engine::Config;
use marconi_engine::env::Environment;
use marconi_server::api::limits::Limits;
use marconi_server::app::{App, NoObserver};
use marconi_server::http::listen::{ListenOptions, serve};
use marconi_server::shutdown::{ShutdownTrigger, shutdown};
use marconi_server::store::EngineStore;
use serde_json::Value;
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// What an example may fail with.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The server of an example: the one that `--url` names, or one in this process over a folder that
/// is removed in the end.
pub(crate) struct Server {
    address: String,
    _own: Option<(ShutdownTrigger, Runtime, TempDir)>,
}

impl Server {
    /// Reads the command line: nothing, or `--url http://127.0.0.1:8888`.
    pub(crate) fn from_arguments() -> Result<Server> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => Server::in_process(),
            ["--url", url] => {
                let address = url.strip_prefix("http://").ok_or("a URL begins with http://")?;
                let address = address.trim_end_matches('/').to_owned();
                Ok(Server { address, _own: None })
            }
            _ => Err("usage: [--url http://ADDRESS:PORT]".into()),
        }
    }

    /// A whole server from the library: store, service, socket.
    fn in_process() -> Result<Server> {
        let folder = tempfile::tempdir()?;
        let store = EngineStore::open(Config::new(folder.path()), Environment::system())?;
        // Claims of a second, so that nobody waits a minute for one to expire.
        let limits = Limits { min_claim_ttl: 1, ..Limits::default() };
        let app = App::new(store, limits, Arc::new(NoObserver));
        let runtime = Runtime::new()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?.to_string();
        let (stop, stopping) = shutdown();
        runtime.spawn(serve(Arc::new(app), listener, ListenOptions::default(), stopping));
        Ok(Server { address, _own: Some((stop, runtime, folder)) })
    }

    /// A client of its own: `number` makes its Client-ID, by which the server tells who posted.
    pub(crate) fn client(&self, number: u32) -> Client {
        Client { address: self.address.clone(), id: format!("{number:032x}") }
    }
}

/// Someone who talks to the server.
pub(crate) struct Client {
    address: String,
    id: String,
}

impl Client {
    /// Sends a request on a connection of its own; gives the status and the document of the answer,
    /// null when there is none. A status of 400 and above is an error.
    pub(crate) fn send(&self, method: &str, target: &str, body: Value) -> Result<(u16, Value)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (address, id, size) = (&self.address, &self.id, body.len());
        let mut stream = TcpStream::connect(address)?;
        write!(
            stream,
            "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Client-ID: {id}\r\nContent-Length: {size}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer has no head")?;
        let status: u16 = head.get(9..12).ok_or("the answer has no status")?.parse()?;
        if status >= 400 {
            return Err(format!("{method} {target}: {status} {body}").into());
        }
        let document = if body.is_empty() { Value::Null } else { serde_json::from_str(body)? };
        Ok((status, document))
    }
}
