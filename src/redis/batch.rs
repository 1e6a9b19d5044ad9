//! L0. Many commands in one round trip, and commands that wait on the server.

use super::{
    link::{Backoff, Connection, Link, Remedy, client, node, remedy},
    server::RedisServer,
};
use crate::error::Result;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
};
use futures_util::future::try_join_all;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

impl Link {
    /// Sends commands together, which may be carried out twice without harm, until all are answered. In a cluster they go
    /// to their nodes one by one, in no order.
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
                Connection::Cluster(connection) => each(connection, pipeline).await,
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

/// Keys of several nodes cannot be in one pipeline.
async fn each(connection: &ClusterConnection, pipeline: &Pipeline) -> RedisResult<()> {
    let sent = pipeline.cmd_iter().map(|command| {
        let mut connection = connection.clone();
        async move {
            match connection.req_packed_command(command).await? {
                Value::ServerError(error) => Err(error.into()),
                _ => Ok(()),
            }
        }
    });
    try_join_all(sent).await.map(drop)
}

/// A connection for commands that wait on the server for as long as they say.
pub(crate) struct Blocking {
    client: Client,
    connection: MultiplexedConnection,
    /// Its number on the server.
    id: i64,
    response_timeout: Duration,
}

/// Ends a wait from outside.
pub(crate) struct Stop {
    client: Client,
    id: i64,
    limit: Duration,
}

impl Blocking {
    /// Connects to the server that has this key.
    pub(crate) async fn open(server: &RedisServer, key: &str) -> RedisResult<Self> {
        let mut client = client(server).await?;
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(server.connect_timeout))
            .set_response_timeout(None);
        let connect = async |client: &Client| client.get_multiplexed_async_connection_with_config(&limits).await;
        let mut connection = connect(&client).await?;
        if server.is_cluster() {
            let exists: RedisResult<i64> = within(server.response_timeout, async {
                ::redis::cmd("EXISTS").arg(key).query_async(&mut connection).await
            })
            .await;
            if let Err(error) = exists {
                let Some((address, _)) = error.redirect_node() else { return Err(error) };
                client = node(server, address)?;
                connection = connect(&client).await?;
            }
        }
        let ask = async { ::redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await };
        let id = within(server.response_timeout, ask).await?;
        Ok(Self { client, connection, id, response_timeout: server.response_timeout })
    }

    /// Sends a command that waits at most `wait`. Dropped, the server may still carry it out.
    pub(crate) async fn ask(&mut self, command: &Cmd, wait: Duration) -> RedisResult<Value> {
        within(wait + self.response_timeout, self.connection.req_packed_command(command)).await
    }

    /// What ends a wait of this connection.
    pub(crate) fn stop(&self) -> Stop {
        Stop { client: self.client.clone(), id: self.id, limit: self.response_timeout }
    }
}

impl Stop {
    /// Lets the wait end as if its time were over.
    pub(crate) async fn now(self) -> RedisResult<()> {
        within(self.limit, async {
            let mut connection = self.client.get_multiplexed_async_connection().await?;
            ::redis::cmd("CLIENT").arg("UNBLOCK").arg(self.id).query_async(&mut connection).await
        })
        .await
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let timed_out = || std::io::Error::from(std::io::ErrorKind::TimedOut).into();
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out()))
}
