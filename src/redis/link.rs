//! L0. The connection to the server: one for all operations of a store, shared and pipelined. It is made anew when it
//! breaks, by a task of its own that all who need it wait for.

use super::server::{Host, Place, RedisServer, Tls};
use crate::error::{Error, Result};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError,
    RedisResult, ServerErrorKind, TlsCertificates, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

/// The first wait before another try, and the longest. Drawn between their halves and wholes, so that many processes do
/// not all come back at once.
const FIRST_WAIT: Duration = Duration::from_millis(20);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        }
    }
}

/// What those who need a connection look at.
#[derive(Default)]
struct State {
    /// Counts connections, so that one that broke is given up once.
    generation: u64,
    connection: Option<Connection>,
    /// When the last one came about.
    opened: Option<Instant>,
    /// Why there is none.
    failure: Option<RedisError>,
    /// Whether somebody makes one. It changes together with what came of it: who finds no connection and this set is
    /// told of the next one.
    is_connecting: bool,
}

pub(crate) struct Link {
    server: RedisServer,
    owner: Owner,
    state: watch::Sender<State>,
    connecting: Mutex<Option<JoinHandle<()>>>,
}

/// What to do about an error.
pub(crate) enum Remedy {
    /// Send the script itself.
    SendScript,
    /// Use another connection; what was sent may or may not have been carried out.
    Reconnect,
    /// Send it again in a moment: it was not carried out.
    Wait,
    /// Nothing. Whether the same may succeed later.
    Fail { retryable: bool },
}

pub(crate) fn remedy(error: &RedisError) -> Remedy {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoScript) => Remedy::SendScript,
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask,
        ) => Remedy::Wait,
        ErrorKind::Io if is_of_tls(error) => Remedy::Fail { retryable: false },
        // A master that became a replica; a new connection goes to the new master.
        ErrorKind::Server(ServerErrorKind::ReadOnly) | ErrorKind::Io | ErrorKind::Parse => Remedy::Reconnect,
        ErrorKind::ClusterConnectionNotFound | ErrorKind::MasterNameNotFoundBySentinel => Remedy::Reconnect,
        _ => match error.code() {
            Some("BUSY") => Remedy::Wait,
            Some("OOM" | "MISCONF" | "NOREPLICAS") => Remedy::Fail { retryable: true },
            _ => Remedy::Fail { retryable: false },
        },
    }
}

/// The other side has another certificate than it should have, or what it says is no TLS.
fn is_of_tls(error: &RedisError) -> bool {
    // What the crate gives is the pointer to the cause.
    let cause = StdError::source(error).and_then(|cause| cause.downcast_ref::<Arc<dyn StdError + Send + Sync>>());
    let cause = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.and_then(std::io::Error::get_ref).is_some_and(|cause| cause.is::<rustls::Error>())
}

/// Whom a connection belongs to: what its errors are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner {
    Store(&'static str),
    #[allow(dead_code)] // Where no adapter is built that lives on Redis.
    Engine(&'static str),
}

impl Owner {
    pub(crate) fn failed(self, operation: &'static str, source: impl Into<BoxError>, retryable: bool) -> Error {
        let source = source.into();
        match self {
            Self::Store(store) => Error::Store { store, operation, source, retryable },
            Self::Engine(engine) => Error::Engine { engine, operation, source, retryable },
        }
    }
}

type BoxError = Box<dyn StdError + Send + Sync>;

/// A wait that grows.
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(FIRST_WAIT)
    }

    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.0.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.0 = (self.0 * 2).min(LONGEST_WAIT);
        wait
    }
}

impl Link {
    pub(crate) fn new(server: RedisServer, owner: Owner) -> Arc<Self> {
        Arc::new(Self { server, owner, state: watch::Sender::default(), connecting: Mutex::default() })
    }

    pub(crate) fn server(&self) -> &RedisServer {
        &self.server
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// Sends a command that may be carried out twice without harm.
    pub(crate) async fn send(self: &Arc<Self>, operation: &'static str, command: &Cmd) -> Result<Value> {
        self.run(operation, true, |_, _| command.clone()).await
    }

    /// What the server's clock shows, since 1970. The nodes of a cluster have clocks of their own: the end of time.
    #[cfg(feature = "python")]
    pub(crate) async fn time(self: &Arc<Self>) -> Result<Duration> {
        if self.server.is_cluster() {
            return self.send("ping", &::redis::cmd("PING")).await.map(|_| Duration::MAX);
        }
        let answer = self.send("read the clock", &::redis::cmd("TIME")).await?;
        let (seconds, micros): (u64, u32) =
            ::redis::from_redis_value(answer).map_err(|error| self.owner.failed("read the clock", error, false))?;
        Ok(Duration::from_secs(seconds) + Duration::from_micros(micros.into()))
    }

    /// Sends what `command` makes, until it is answered or patience is at its end. `command` is told whether to send the
    /// text of a script, and whether an earlier try may have been carried out. Only what is `repeatable` is sent again
    /// then.
    pub(crate) async fn run(
        self: &Arc<Self>,
        operation: &'static str,
        repeatable: bool,
        command: impl Fn(bool, bool) -> Cmd,
    ) -> Result<Value> {
        let deadline = Instant::now() + self.server.patience;
        let (mut whole_script, mut again, mut backoff) = (false, false, Backoff::new());
        loop {
            let (generation, mut connection) = self.connection(operation, deadline).await?;
            let error = match connection.send(&command(whole_script, again)).await {
                Ok(Value::ServerError(error)) => RedisError::from(error),
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let pause = match remedy(&error) {
                Remedy::SendScript if !whole_script => {
                    whole_script = true;
                    continue;
                }
                Remedy::SendScript => return Err(self.owner.failed(operation, error, false)),
                Remedy::Reconnect => {
                    self.give_up(generation);
                    if !repeatable {
                        return Err(self.owner.failed(operation, error, true));
                    }
                    again = true;
                    Duration::ZERO
                }
                Remedy::Wait => backoff.next(),
                Remedy::Fail { retryable } => return Err(self.owner.failed(operation, error, retryable)),
            };
            if Instant::now() + pause >= deadline {
                return Err(self.owner.failed(operation, error, true));
            }
            tokio::time::sleep(pause).await;
        }
    }

    pub(super) async fn connection(
        self: &Arc<Self>,
        operation: &'static str,
        deadline: Instant,
    ) -> Result<(u64, Connection)> {
        if let Some(found) = current(&self.state.borrow()) {
            return Ok(found);
        }
        let mut state = self.state.subscribe();
        loop {
            state.mark_unchanged();
            if let Some(found) = current(&state.borrow()) {
                return Ok(found);
            }
            self.connect();
            let changed = tokio::time::timeout_at(deadline, state.changed()).await;
            let failure = state.borrow().failure.clone();
            match (changed, failure) {
                (Ok(_), None) => {}
                (Ok(_), Some(error)) => {
                    if let Remedy::Fail { retryable: false } = remedy(&error) {
                        return Err(self.owner.failed(operation, error, false));
                    }
                }
                (Err(_), Some(error)) => return Err(self.owner.failed(operation, error, true)),
                (Err(_), None) => return Err(self.owner.failed(operation, "no connection in time", true)),
            }
        }
    }

    /// The connection of this number is not used any more.
    pub(super) fn give_up(&self, generation: u64) {
        self.state.send_if_modified(|state| {
            let is_current = state.generation == generation && state.connection.is_some();
            if is_current {
                state.connection = None;
            }
            is_current
        });
    }

    /// Starts to connect, unless somebody does so already.
    fn connect(self: &Arc<Self>) {
        let mut connecting = self.connecting.lock().unwrap_or_else(PoisonError::into_inner);
        // The task of a runtime that is gone counts as finished.
        let is_dead = connecting.as_ref().is_none_or(JoinHandle::is_finished);
        let mut is_needed = false;
        self.state.send_if_modified(|state| {
            is_needed = state.connection.is_none() && (is_dead || !state.is_connecting);
            state.is_connecting |= is_needed;
            false
        });
        if is_needed {
            *connecting = Some(tokio::spawn(keep_trying(Arc::downgrade(self))));
        }
    }
}

fn current(state: &State) -> Option<(u64, Connection)> {
    state.connection.clone().map(|connection| (state.generation, connection))
}

/// Tries to connect until there is a connection, until nobody is left who would need it, or until trying is pointless.
async fn keep_trying(link: Weak<Link>) {
    let mut backoff = Backoff::new();
    let opened = link.upgrade().and_then(|link| link.state.borrow().opened);
    // A server may take connections and end them at once. All wait for the same connection, so that nobody goes ahead of
    // those whose answers were lost.
    if opened.is_some_and(|opened| opened.elapsed() < FIRST_WAIT) {
        tokio::time::sleep(backoff.next()).await;
    }
    loop {
        let Some(config) = link.upgrade().map(|link| link.server.clone()) else { return };
        let opened = open(&config).await;
        let Some(link) = link.upgrade() else { return };
        match opened {
            Ok(connection) => {
                link.state.send_modify(|state| {
                    state.generation += 1;
                    state.connection = Some(connection);
                    state.opened = Some(Instant::now());
                    state.failure = None;
                    state.is_connecting = false;
                });
                return;
            }
            Err(error) => {
                let pointless = matches!(remedy(&error), Remedy::Fail { retryable: false });
                link.state.send_modify(|state| {
                    state.failure = Some(error);
                    state.is_connecting = !pointless;
                });
                if pointless {
                    return;
                }
            }
        }
        drop(link);
        tokio::time::sleep(backoff.next()).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let connecting = self.connecting.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = connecting {
            task.abort();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.server).finish_non_exhaustive()
    }
}

async fn open(config: &RedisServer) -> RedisResult<Connection> {
    if config.tls.is_some() {
        // Fails where the program has chosen another one, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let limits = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.connect_timeout))
        .set_response_timeout(Some(config.response_timeout));
    match &config.place {
        Place::Cluster(hosts) => Ok(Connection::Cluster(cluster(config, hosts)?.get_async_connection().await?)),
        _ => {
            let client = client(config).await?;
            Ok(Connection::Server(client.get_multiplexed_async_connection_with_config(&limits).await?))
        }
    }
}

/// A client of one server: the only one, the present master, or any node of a cluster, the next one at each call.
pub(crate) async fn client(config: &RedisServer) -> RedisResult<Client> {
    match &config.place {
        Place::Server(host) => of_host(config, host),
        Place::Socket(path) => Client::open(info(config, ConnectionAddr::Unix(path.into()))?),
        Place::Sentinel { hosts, master } => {
            let mut sentinels = sentinel(config, hosts, master)?;
            // The sentinels are asked one after the other, without a limit of their own.
            let answer = tokio::time::timeout(config.connect_timeout, sentinels.async_get_client()).await;
            answer.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
        }
        Place::Cluster(hosts) => {
            let any = hosts.get(fastrand::usize(..hosts.len().max(1)));
            any.map_or_else(|| Err((ErrorKind::InvalidClientConfig, "no host").into()), |host| of_host(config, host))
        }
    }
}

/// A client of the node of a cluster at this address.
#[allow(dead_code)] // As for `Owner::Engine`.
pub(super) fn node(config: &RedisServer, address: &str) -> RedisResult<Client> {
    let parts = address.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse().ok()?)));
    let (name, port) =
        parts.ok_or_else(|| RedisError::from((ErrorKind::Parse, "the address of a node", address.to_owned())))?;
    of_host(config, &Host { name: name.trim_matches(['[', ']']).to_owned(), port })
}

fn of_host(config: &RedisServer, host: &Host) -> RedisResult<Client> {
    let info = info(config, address(config, host))?;
    match &config.tls {
        Some(tls) => Client::build_with_tls(info, certificates(tls)),
        None => Client::open(info),
    }
}

fn address(config: &RedisServer, host: &Host) -> ConnectionAddr {
    let (name, port) = (host.name.clone(), host.port);
    match config.tls {
        Some(_) => ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None },
        None => ConnectionAddr::Tcp(name, port),
    }
}

fn info(config: &RedisServer, address: ConnectionAddr) -> RedisResult<ConnectionInfo> {
    let info = address.into_connection_info()?;
    let mut settings = info.redis_settings().clone().set_db(config.database);
    if let Some(user) = &config.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &config.password {
        settings = settings.set_password(password);
    }
    Ok(info.set_redis_settings(settings))
}

fn certificates(tls: &Tls) -> TlsCertificates {
    let identity = tls.identity.clone();
    TlsCertificates {
        client_tls: identity.map(|(client_cert, client_key)| ::redis::ClientTlsConfig { client_cert, client_key }),
        root_cert: tls.ca.clone(),
    }
}

fn cluster(config: &RedisServer, hosts: &[Host]) -> RedisResult<ClusterClient> {
    let nodes = hosts.iter().map(|host| info(config, address(config, host))).collect::<RedisResult<Vec<_>>>()?;
    let mut builder = ClusterClientBuilder::new(nodes)
        .connection_timeout(config.connect_timeout)
        .response_timeout(config.response_timeout)
        // All tries again are made here. What the client sends again by itself it may do twice, unasked; and after the loss
        // of one node's connection it lets much of it hang until the response timeout. Of redirections it learns where
        // the slots are, so the next try goes to the right node.
        .retries(0);
    if let Some(tls) = &config.tls {
        builder = builder.tls(TlsMode::Secure).certs(certificates(tls));
    }
    builder.build()
}

fn sentinel(config: &RedisServer, hosts: &[Host], master: &str) -> RedisResult<SentinelClient> {
    let mut addresses: Vec<_> = hosts.iter().map(|host| address(config, host)).collect();
    // One that hangs takes all the time there is; at the next try another one may be first.
    fastrand::shuffle(&mut addresses);
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
        .set_client_to_redis_db(config.database);
    if let Some(user) = &config.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &config.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = &config.sentinel_user {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = &config.sentinel_password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if let Some(tls) = &config.tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates(tls))
            .set_client_to_sentinel_certificates(certificates(tls));
    }
    builder.build()
}
