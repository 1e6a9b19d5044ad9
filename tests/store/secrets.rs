//! Passwords appear nowhere: neither in what is shown nor in what is logged, whatever happens.

use crate::{local::Server, records::*, servers::config};
use mageflow::store::{
    Notice, Scan,
    redis::{RedisConfig, RedisStore},
};
use std::{
    fmt::{Debug, Write as _},
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

const SECRET: &str = "hush-4711";

/// Lines that contain the secret, and how many lines there were.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
static LINES: AtomicU64 = AtomicU64::new(0);
static OWN_LINES: AtomicU64 = AtomicU64::new(0);

fn take_down(target: &str, line: String) {
    LINES.fetch_add(1, Ordering::Relaxed);
    if target.starts_with("mageflow::store::redis") {
        OWN_LINES.fetch_add(1, Ordering::Relaxed);
    }
    if line.contains(SECRET) {
        TOLD.lock().unwrap().push(format!("{target}: {line}"));
    }
}

/// Takes down everything of every level, from the whole process.
struct Everything;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut line = Line(String::new());
        attributes.record(&mut line);
        take_down(attributes.metadata().target(), line.0);
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        let mut line = Line(String::new());
        values.record(&mut line);
        take_down("span", line.0);
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        take_down(event.metadata().target(), line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// What the libraries below say.
impl log::Log for Everything {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        take_down(record.target(), record.args().to_string());
    }

    fn flush(&self) {}
}

fn listen_to_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(Everything).unwrap();
        log::set_logger(&Everything).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// Everything that a value shows.
fn shown(what: &impl Debug, told: &mut Vec<String>) {
    told.extend([format!("{what:?}"), format!("{what:#?}")]);
}

fn shown_error(error: &mageflow::Error, told: &mut Vec<String>) {
    shown(error, told);
    let mut cause = Some(error as &dyn std::error::Error);
    while let Some(error) = cause {
        told.extend([error.to_string(), format!("{error:?}")]);
        cause = error.source();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_appear_nowhere() {
    listen_to_logs();
    let Some(mut server) = Server::start(&["--requirepass", SECRET]) else { return };
    let url = format!("redis://:{SECRET}@127.0.0.1:{}", server.port);
    let settings = config(&url).patience(ms(500)).response_timeout(ms(300));
    let mut told = Vec::new();
    shown(&settings, &mut told);
    let store = RedisStore::connect(settings.clone()).await.unwrap();
    shown(&store, &mut told);

    // Operations, and what they answer.
    let store: Store = Arc::new(store);
    let root = new_root();
    shown(&write(&store, vec![create(&root)]).await, &mut told);
    shown(&write(&store, vec![create(&root)]).await, &mut told);
    let mut notices = store.notices().await.unwrap();
    store.notify(Notice::Missed).await.unwrap();
    shown(&in_time("a notice", notices.next()).await, &mut told);
    shown(
        &store.scan(Scan { after: Some(SECRET.chars().rev().collect()), limit: 1, roots_only: true }).await,
        &mut told,
    );
    shown(&store, &mut told);

    // A user and a password that are wrong, a server that wants another password meanwhile, that hangs, that is gone.
    for wrong in [format!("redis://nobody:{SECRET}-wrong@127.0.0.1:{}", server.port), url.replace("redis:", "rediss:")]
    {
        let wrong = config(&wrong).patience(ms(300));
        shown(&wrong, &mut told);
        shown_error(&RedisStore::connect(wrong).await.unwrap_err(), &mut told);
    }
    crate::local::tell::<()>(&url, &["CONFIG", "SET", "requirepass", "other"]);
    let other = url.replace(SECRET, "other");
    for kind in ["normal", "pubsub"] {
        crate::local::kill_clients(&other, kind);
    }
    shown_error(&store.ping().await.unwrap_err(), &mut told);
    crate::local::tell::<()>(&other, &["CONFIG", "SET", "requirepass", SECRET]);
    eventually("it may log in again", async || store.ping().await.is_ok()).await;
    server.signal("STOP");
    shown_error(&store.ping().await.unwrap_err(), &mut told);
    server.kill();
    shown_error(&store.ping().await.unwrap_err(), &mut told);
    shown_error(&RedisStore::connect(settings).await.unwrap_err(), &mut told);
    for kind in ["redis-sentinel", "redis-cluster"] {
        let text = url.replace("redis:", &format!("{kind}:")) + if kind == "redis-sentinel" { "/main" } else { "" };
        let settings = config(&text).sentinel_credentials(None, SECRET).patience(ms(300));
        shown(&settings, &mut told);
        shown_error(&RedisStore::connect(settings).await.unwrap_err(), &mut told);
        shown_error(&RedisConfig::from_url(&text.replace("127.0.0.1", "")).unwrap_err(), &mut told);
    }

    let told: Vec<_> = told.iter().filter(|line| line.contains(SECRET)).collect();
    assert!(told.is_empty(), "{told:#?}");
    let logged = TOLD.lock().unwrap().clone();
    assert!(logged.is_empty(), "{logged:#?}");
    assert!(OWN_LINES.load(Ordering::Relaxed) > 0, "nothing of {} lines is the store's", LINES.load(Ordering::Relaxed));
    take_down("test", format!("would be noticed: {SECRET}"));
    assert_eq!(TOLD.lock().unwrap().len(), 1);
}
