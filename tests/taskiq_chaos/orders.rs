//! What the processes of a run agree on, and what each of them does.

use crate::{
    chaos::{
        fleet::{self, Recipe},
        journal::{JOURNAL, Journal},
        server::STORE,
        work::{Run, with_tasks},
    },
    plain::{self, Notes, Plan, SHARED},
};
use mageflow::{Error, Mageflow, SubmitOptions, adapters::taskiq::TaskiqBroker, args, store::redis::RedisConfig};
use std::{
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

/// Shorter than most stops of the server, so that operations fail for real.
const PATIENCE: Duration = Duration::from_secs(2);
/// What the names of results begin with.
pub(crate) const RESULT: &str = "result";
/// The broker's own queue: what only Rust workers serve.
pub(crate) const OWN: &str = "own";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    List,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::List => "list",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Stream, Self::List].into_iter().find(|kind| kind.name() == word)
    }
}

/// What a process is told.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) url: String,
    pub(crate) kind: Kind,
    pub(crate) run: Run,
    /// How long ended graphs are kept.
    pub(crate) keep: Duration,
    /// How long a silent Rust worker has what it took, and any Python worker.
    pub(crate) lease: Duration,
    pub(crate) idle: Duration,
    /// How many plain tasks are sent, and within which time.
    pub(crate) plain: u32,
    pub(crate) length: Duration,
}

impl Orders {
    fn words(&self) -> Vec<String> {
        let millis = |time: Duration| time.as_millis().to_string();
        let Self { url, kind, run, keep, lease, idle, plain, length } = self;
        let first = [url.clone(), kind.name().into(), run.seed.to_string(), run.tasks.to_string(), plain.to_string()];
        first.into_iter().chain([*keep, *lease, *idle, *length].map(millis)).collect()
    }

    /// From the words of a command line.
    pub(crate) fn parse(words: &[String]) -> Option<Self> {
        let [url, kind, seed, tasks, plain, times @ ..] = words else { return None };
        let times: Vec<_> =
            times.iter().map(|time| time.parse().ok().map(Duration::from_millis)).collect::<Option<_>>()?;
        let [keep, lease, idle, length] = times[..] else { return None };
        let run = Run { seed: seed.parse().ok()?, tasks: tasks.parse().ok()? };
        let (url, kind, plain) = (url.clone(), Kind::parse(kind)?, plain.parse().ok()?);
        Some(Self { url, kind, run, keep, lease, idle, plain, length })
    }

    /// How long a slow task takes.
    pub(crate) fn slow(&self) -> Duration {
        5 * self.idle.max(self.lease)
    }

    pub(crate) fn plan(&self, number: u32) -> Plan {
        // The first slow ones are sent before all others.
        if number >= self.plain {
            Plan::slow(number, self.slow())
        } else {
            Plan::draw(self.run.seed, number, self.slow())
        }
    }

    pub(crate) fn notes(&self) -> mageflow::Result<Notes> {
        self.journal(plain::JOURNAL).map(Notes)
    }

    fn journal(&self, name: &str) -> mageflow::Result<Journal> {
        Journal::new(&self.url, name).map_err(|error| Error::InvalidConfig { reason: error.to_string() })
    }

    /// The library as every Rust process has it.
    pub(crate) async fn mageflow(&self) -> mageflow::Result<Mageflow> {
        let server = mageflow::redis::RedisServer::from_url(&self.url)?.patience(PATIENCE);
        let broker = match self.kind {
            Kind::Stream => TaskiqBroker::redis_stream(server.clone()),
            Kind::List => TaskiqBroker::redis_list(server.clone()),
        };
        let broker = broker.queue_name(OWN).result_prefix(RESULT).lease(self.lease).idle_timeout(self.idle);
        let store = RedisConfig::from(server).prefix(STORE);
        let (keep, lease) = (self.keep, self.lease);
        let builder = Mageflow::with_taskiq(broker).redis(store).configure(|config| {
            (config.lease, config.dispatch_grace) = (lease, lease);
            config.rescue_interval = Duration::from_millis(200);
            config.ttl.done = keep;
            // A long task may meet many kills; here it must not fail because of that.
            config.max_lost = 1000;
        });
        let builder = with_tasks(builder, self.journal(JOURNAL)?, self.run);
        builder.task(plain::plain).state(self.notes()?).build().await
    }

    /// Works until it is killed.
    pub(crate) async fn serve(self) -> ExitCode {
        fleet::serve(async || self.mageflow().await, &["default", SHARED]).await
    }

    pub(crate) fn rust_worker(&self) -> Recipe {
        self.recipe("worker")
    }

    pub(crate) fn client(&self) -> Recipe {
        self.recipe("client")
    }

    fn recipe(&self, word: &'static str) -> Recipe {
        let words = self.words();
        Box::new(move || fleet::another(word, &words))
    }

    /// A Python worker. The shell in front ends it, and all that it started, when this process is gone.
    pub(crate) fn python_worker(&self, python: &str) -> Recipe {
        const GUARD: &str = r#"exec 3<&0; { cat <&3 >/dev/null; kill -KILL -$$; } & exec "$@" 3<&-"#;
        let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/taskiq_chaos");
        let (orders, python) = (self.clone(), python.to_owned());
        Box::new(move || {
            let mut command = Command::new("sh");
            command.args(["-c", GUARD, "sh", &python, "-m", "taskiq", "worker", "--workers", "1"]);
            command.args(["--log-level", "WARNING", "--app-dir"]).arg(&app).arg("worker:broker");
            command.env("CHAOS_URL", &orders.url).env("CHAOS_JOURNAL", plain::JOURNAL);
            command.env("CHAOS_IDLE", orders.idle.as_millis().to_string());
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            Ok(command)
        })
    }

    /// Sends all plain tasks at their times. What may not have been sent is sent again.
    pub(crate) async fn send_all(self) -> ExitCode {
        fleet::end_with_parent();
        match self.try_send_all().await {
            // Whoever started it ends it.
            Ok(()) => std::future::pending().await,
            Err(error) => fleet::failed(&error),
        }
    }

    async fn try_send_all(&self) -> mageflow::Result<()> {
        let (mage, notes) = (self.mageflow().await?, self.notes()?);
        let mut dice = fastrand::Rng::with_seed(self.run.seed);
        let (start, mut number) = (tokio::time::Instant::now(), 0);
        while number < self.plain {
            tokio::time::sleep_until(start + self.length * number / self.plain).await;
            let many = number + if dice.bool() { 1 } else { dice.u32(1..=30) };
            let plans: Vec<_> = (number..many.min(self.plain)).map(|number| self.plan(number)).collect();
            number = many;
            let (slow, others): (Vec<_>, Vec<_>) = plans.into_iter().partition(|plan| plan.is_slow);
            for plan in slow {
                self.send(&mage, &notes, plan, "default").await?;
            }
            match others[..] {
                [plan] => self.send(&mage, &notes, plan, SHARED).await?,
                _ => send_many(&mage, &notes, &others).await?,
            }
        }
        notes.all_sent().await;
        Ok(())
    }

    /// Sends one task under an id of our choice, so that whoever runs it twice is seen.
    pub(crate) async fn send(&self, mage: &Mageflow, notes: &Notes, plan: Plan, queue: &str) -> mageflow::Result<()> {
        let id = format!("plain-{}", plan.number);
        let options = SubmitOptions::new().task_id(id.as_str()).queue(queue);
        for tries in 1.. {
            match mage.submit_opts("plain", words(&plan), &options).await {
                Ok(_) => {
                    notes.sent(plan.number, &id, tries).await;
                    break;
                }
                Err(error) if error.is_retryable() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn words(plan: &Plan) -> mageflow::Arguments {
    args![number = plan.number, failures = plan.failures, millis = plan.millis]
}

/// Sends tasks together. They get other ids at each try.
async fn send_many(mage: &Mageflow, notes: &Notes, plans: &[Plan]) -> mageflow::Result<()> {
    loop {
        match mage.submit_many(plans.iter().map(|plan| ("plain", words(plan)))).await {
            Ok(ids) => {
                for (plan, id) in plans.iter().zip(ids) {
                    notes.sent(plan.number, &id.to_string(), 1).await;
                }
                return Ok(());
            }
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error),
        }
    }
}
