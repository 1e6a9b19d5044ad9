//! Between a store and its server: cuts a connection when the server has carried out a commit and before the store gets
//! the answer.

use crate::relay::Relay;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::timeout,
};

/// How long a server that has been asked may be silent before nothing more is expected of it.
const SILENT: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Shared {
    /// Every so many requests with commits the answers are lost; 0: none.
    every: AtomicU64,
    requests: AtomicU64,
    lost: AtomicU64,
    /// Whether nobody is served once an answer was lost, and whether that is so now.
    holds: AtomicBool,
    is_held: watch::Sender<bool>,
}

pub(crate) struct Proxy {
    relay: Relay,
    shared: Arc<Shared>,
}

impl Proxy {
    pub(crate) async fn to(server: u16) -> Self {
        let shared = Arc::<Shared>::default();
        let own = shared.clone();
        let relay = Relay::start(move |client| pass(client, server, own.clone())).await;
        Self { relay, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.relay.port())
    }

    /// From now on every `every`-th request with commits loses its answers, and its connection.
    pub(crate) fn cut_every(&self, every: u64) {
        self.shared.every.store(every, Ordering::Relaxed);
    }

    /// The next commit loses its answer, and then nobody is served until the release.
    pub(crate) fn cut_and_hold(&self) {
        self.shared.holds.store(true, Ordering::Relaxed);
        self.cut_every(1);
    }

    /// Serves again, and cuts nothing any more.
    pub(crate) fn release(&self) {
        self.cut_every(0);
        self.shared.holds.store(false, Ordering::Relaxed);
        self.shared.is_held.send_replace(false);
    }

    /// How many commits were carried out whose answer was lost.
    pub(crate) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

async fn pass(client: TcpStream, server: u16, shared: Arc<Shared>) {
    shared.is_held.subscribe().wait_for(|held| !held).await.unwrap();
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let is_cut = AtomicBool::new(false);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = requests(from_client, to_server, &shared, &is_cut) => {}
        () = answers(from_server, to_client, &shared, &is_cut) => {}
    }
}

async fn requests(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, shared: &Shared, is_cut: &AtomicBool) {
    let mut buffer = vec![0; 1 << 18];
    loop {
        let Ok(read @ 1..) = client.read(&mut buffer).await else { return };
        let every = shared.every.load(Ordering::Relaxed);
        if every > 0 && has_commit(&buffer[..read]) {
            // Not each commit counts: many are under way at once, and then no connection would ever last.
            let number = shared.requests.fetch_add(1, Ordering::Relaxed) + 1;
            if number.is_multiple_of(every) {
                is_cut.store(true, Ordering::SeqCst);
            }
        }
        if server.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn answers(mut server: OwnedReadHalf, mut client: OwnedWriteHalf, shared: &Shared, is_cut: &AtomicBool) {
    let mut buffer = vec![0; 1 << 18];
    let mut withheld = Vec::new();
    loop {
        let read = match is_cut.load(Ordering::SeqCst) {
            false => server.read(&mut buffer).await,
            true => timeout(SILENT, server.read(&mut buffer)).await.unwrap_or(Ok(0)),
        };
        let read = read.unwrap_or(0);
        if is_cut.load(Ordering::SeqCst) {
            withheld.extend_from_slice(&buffer[..read]);
            let lost = successes_in(&withheld);
            if lost > 0 || read == 0 {
                shared.is_held.send_replace(lost > 0 && shared.holds.load(Ordering::Relaxed));
                shared.lost.fetch_add(lost, Ordering::Relaxed);
                return;
            }
        } else if read == 0 || client.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Commits are the scripts with five keys; what removes a graph counts too.
fn has_commit(bytes: &[u8]) -> bool {
    const WORD: &[u8] = b"EVALSHA\r\n$40\r\n";
    let mut starts = bytes.windows(WORD.len()).enumerate().filter(|(_, window)| *window == WORD);
    starts.any(|(at, _)| bytes[at + WORD.len()..].get(40..).is_some_and(|rest| rest.starts_with(b"\r\n$1\r\n5\r\n")))
}

/// A commit that was carried out is answered with a list that begins with 1 and the time.
fn successes_in(bytes: &[u8]) -> u64 {
    const WORD: &[u8] = b"\r\n:1\r\n:1";
    bytes.windows(WORD.len()).filter(|window| *window == WORD).count() as u64
}
