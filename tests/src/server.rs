//! The service in this process behind a real socket: one line to start it over any store, and it
//! stops when it is dropped. Knows no cases.

use anyhow::Context;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use marconi_server::api::limits::Limits;
use marconi_server::app::{App, NoObserver};
use marconi_server::http::service::handle;
use marconi_server::store::Store;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// A running service.
#[derive(Debug)]
pub struct TestServer {
    /// Where it listens.
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl TestServer {
    /// Serves `store` on a free port of the loopback interface, on `runtime`. Called from outside
    /// of it.
    pub fn start<S: Store>(
        runtime: &Handle,
        store: S,
        limits: Limits,
    ) -> anyhow::Result<TestServer> {
        let listener =
            runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).context("bind a port")?;
        let address = listener.local_addr().context("learn the port")?;
        let app = Arc::new(App::new(store, limits, Arc::new(NoObserver)));
        let accepting = runtime.spawn(accept(listener, app));
        Ok(TestServer { address, accepting })
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept<S: Store>(listener: TcpListener, app: Arc<App<S>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let app = Arc::clone(&app);
        let service = service_fn(move |request| {
            let app = Arc::clone(&app);
            async move { Ok::<_, Infallible>(handle(&app, request).await) }
        });
        tokio::spawn(async move {
            // A client that goes away half-way is no failure of a test.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
