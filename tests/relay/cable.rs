//! A cable that can be cut, with or without anybody noticing, and that counts the calls of HTTP/2 which pass it.

use super::Relay;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

/// What befalls a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both sides are told at once that it is gone.
    Reset,
    /// Nothing arrives any more, and nobody is told.
    Silent,
}

pub(crate) struct Cable {
    relay: Relay,
    /// Which connections are cut: all up to this number, and how.
    cut: watch::Sender<(u64, Option<Cut>)>,
    opened: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
}

impl Cable {
    /// To a server on this machine.
    pub(crate) async fn to(server: u16) -> Self {
        let (cut, _) = watch::channel((0, None));
        let (opened, calls) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (own_cut, own_opened, own_calls) = (cut.clone(), opened.clone(), calls.clone());
        let relay = Relay::start(move |client| {
            let number = own_opened.fetch_add(1, Ordering::SeqCst) + 1;
            pass(client, server, number, own_cut.subscribe(), own_calls.clone())
        });
        Self { relay: relay.await, cut, opened, calls }
    }

    /// Where clients find it.
    pub(crate) fn place(&self) -> String {
        format!("127.0.0.1:{}", self.relay.port())
    }

    /// All connections that there are. New ones are whole.
    pub(crate) fn cut(&self, cut: Cut) {
        self.cut.send_replace((self.opened(), Some(cut)));
    }

    /// How many connections there were.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::SeqCst)
    }

    /// How many calls clients have made.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

async fn pass(
    mut client: TcpStream,
    server: u16,
    number: u64,
    mut cut: watch::Receiver<(u64, Option<Cut>)>,
    calls: Arc<AtomicU64>,
) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let mut count = Frames::new(calls);
    let befell = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::select! {
            cut = cut.wait_for(|(up_to, _)| *up_to >= number) => cut.ok().and_then(|cut| cut.1),
            () = copy(from_client, to_server, |bytes| count.read(bytes)) => None,
            () = copy(from_server, to_client, |_| {}) => None,
        }
    };
    match befell {
        Some(Cut::Reset) => [client, server].iter().for_each(|end| end.set_zero_linger().expect("an open end")),
        // Both ends stay open, and nobody reads.
        Some(Cut::Silent) => std::future::pending().await,
        None => {}
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut look: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        look(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// What a client of HTTP/2 says first.
const PREFACE: usize = 24;
/// In front of each frame: its length in three bytes, its type, and what is of no interest here.
const HEAD: usize = 9;
/// The type of the frames that begin a call.
const HEADERS: u8 = 1;

/// Counts calls in what a client sends.
struct Frames {
    calls: Arc<AtomicU64>,
    /// Bytes that are none of a head's.
    skip: usize,
    head: Vec<u8>,
}

impl Frames {
    fn new(calls: Arc<AtomicU64>) -> Self {
        Self { calls, skip: PREFACE, head: Vec::with_capacity(HEAD) }
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            (self.skip, bytes) = (self.skip - skipped, &bytes[skipped..]);
            let more = (HEAD - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..more]);
            bytes = &bytes[more..];
            if self.head.len() == HEAD {
                self.skip = self.head[..3].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                self.calls.fetch_add(u64::from(self.head[3] == HEADERS), Ordering::SeqCst);
                self.head.clear();
            }
        }
    }
}
