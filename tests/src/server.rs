//! The service in this process behind a real socket: one line to start it over any store, and it
//! stops when it is dropped. Knows no cases.

use anyhow::Context;
use marconi_server::api::limits::Limits;
use marconi_server::app::{App, NoObserver};
use marconi_server::http::listen::{ListenOptions, serve};
use marconi_server::shutdown::{ShutdownTrigger, shutdown};
use marconi_server::store::Store;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// A running service.
#[derive(Debug)]
pub struct TestServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Stops it when dropped.
    _running: ShutdownTrigger,
}

impl TestServer {
    /// Serves `store` on a free port of the loopback interface, on `runtime`. Called from outside
    /// of it.
    pub fn start<S: Store>(
        runtime: &Handle,
        store: S,
        limits: Limits,
    ) -> anyhow::Result<TestServer> {
        let app = Arc::new(App::new(store, limits, Arc::new(NoObserver)));
        TestServer::start_app(runtime, app, ListenOptions::default())
    }

    /// The same with all that requests share made before, and with the listener's options.
    pub fn start_app<S: Store>(
        runtime: &Handle,
        app: Arc<App<S>>,
        options: ListenOptions,
    ) -> anyhow::Result<TestServer> {
        let listener =
            runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).context("bind a port")?;
        let address = listener.local_addr().context("learn the port")?;
        let (running, stop) = shutdown();
        runtime.spawn(serve(app, listener, options, stop));
        Ok(TestServer { address, _running: running })
    }
}
