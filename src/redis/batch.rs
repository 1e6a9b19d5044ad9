//! L0. Many commands in one round trip, and commands that wait on the server.

use super::{
    link::{Backoff, Connection, Link, Remedy, client, remedy},
    server::RedisServer,
};
use crate::error::Result;
use ::redis::{AsyncConnectionConfig, Pipeline, RedisResult, aio::MultiplexedConnection};
use std::sync::Arc;
use tokio::time::Instant;

impl Link {
    /// Sends commands together, which may be carried out twice without harm, until all are answered.
    pub(crate) async fn pipeline(self: &Arc<Self>, operation: &'static str, pipeline: &Pipeline) -> Result<()> {
        self.pipe(operation, pipeline, true).await
    }

    /// Sends commands together, once: after a lost answer nobody knows which were carried out.
    pub(crate) async fn pipeline_once(self: &Arc<Self>, operation: &'static str, pipeline: &Pipeline) -> Result<()> {
        self.pipe(operation, pipeline, false).await
    }

    async fn pipe(self: &Arc<Self>, operation: &'static str, pipeline: &Pipeline, repeatable: bool) -> Result<()> {
        let deadline = Instant::now() + self.server().patience;
        let mut backoff = Backoff::new();
        loop {
            let (generation, mut connection) = self.connection(operation, deadline).await?;
            let answer: RedisResult<()> = match &mut connection {
                Connection::Server(connection) => pipeline.exec_async(connection).await,
                Connection::Cluster(connection) => pipeline.exec_async(connection).await,
            };
            let Err(error) = answer else { return Ok(()) };
            match remedy(&error) {
                Remedy::Reconnect => self.give_up(generation),
                Remedy::Wait | Remedy::SendScript => {}
                Remedy::Fail { retryable } => return Err(self.owner().failed(operation, error, retryable)),
            }
            let pause = backoff.next();
            if !repeatable || Instant::now() + pause >= deadline {
                return Err(self.owner().failed(operation, error, true));
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// A connection for commands that wait on the server for as long as they say.
pub(crate) async fn blocking(server: &RedisServer) -> RedisResult<MultiplexedConnection> {
    let limits =
        AsyncConnectionConfig::new().set_connection_timeout(Some(server.connect_timeout)).set_response_timeout(None);
    client(server).await?.get_multiplexed_async_connection_with_config(&limits).await
}
