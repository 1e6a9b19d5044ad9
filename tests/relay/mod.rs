//! A place between clients and a server, where connections can be tampered with.

// Each target uses its own part of it.
#![allow(dead_code)]

pub(crate) mod cable;

use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Takes connections until it is dropped, and with it all of them.
pub(crate) struct Relay {
    port: u16,
    serving: JoinHandle<()>,
}

impl Relay {
    /// What becomes of each connection is up to `pass`.
    pub(crate) async fn start<F>(pass: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let serving = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    taken = listener.accept() => drop(open.spawn(pass(taken.expect("a connection").0))),
                    Some(_) = open.join_next() => {}
                }
            }
        });
        Self { port, serving }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
