//! Engines of Hatchet that may be stopped: that of the environment, or one of one's own.

// Each target uses its own part of it.
#![allow(dead_code)]

use mageflow::adapters::hatchet::{HatchetClient, HatchetClientBuilder, HatchetTls};
use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// An engine that `scripts/services` started, by what that printed. One that was started here is taken down when this is dropped.
pub(crate) struct Engine {
    variables: HashMap<String, String>,
    own: Option<Services>,
}

impl Engine {
    /// The one that the environment names. `None`, which is said, if it names none and none is required.
    pub(crate) fn of_this_environment() -> Option<Self> {
        if env::var_os("MAGEFLOW_HATCHET_ENGINE").is_some() {
            return Some(Self { variables: env::vars().collect(), own: None });
        }
        if env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all") {
            panic!("MAGEFLOW_HATCHET_ENGINE is not set: there is no engine that may be stopped")
        }
        eprintln!("skipped: MAGEFLOW_HATCHET_ENGINE is not set");
        None
    }

    /// A new one with an empty database, which nobody else uses.
    pub(crate) fn start() -> Self {
        let services = Services::new();
        let told = services.command(r#"exports=$(scripts/services up hatchet) && eval "$exports" && env -0"#).output();
        let told = told.expect("a shell");
        assert!(told.status.success(), "no engine: {}", String::from_utf8_lossy(&told.stderr));
        let text = String::from_utf8(told.stdout).expect("text");
        let variables = text.split('\0').filter_map(|line| line.split_once('='));
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { variables, own: Some(services) }
    }

    pub(crate) fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map_or_else(|| panic!("{name} is not set"), String::as_str)
    }

    /// What clients of every language read.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(|(name, _)| name.starts_with("HATCHET_CLIENT_"))
    }

    pub(crate) fn client(&self) -> HatchetClientBuilder {
        HatchetClient::builder()
            .token(self.variable("HATCHET_CLIENT_TOKEN"))
            .host_port(self.variable("HATCHET_CLIENT_HOST_PORT"))
            .server_url(self.variable("HATCHET_CLIENT_SERVER_URL"))
            .tls_strategy(HatchetTls::None)
    }

    /// Host and port for calls.
    pub(crate) fn place(&self) -> &str {
        self.variable("HATCHET_CLIENT_HOST_PORT")
    }

    pub(crate) fn port(&self) -> u16 {
        self.place().rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port")
    }

    /// Sends its process a signal.
    pub(crate) fn signal(&self, signal: &str) {
        signal_to(self.variable("MAGEFLOW_HATCHET_ENGINE"), signal);
    }

    /// Kills it. It is not started again while what this returns exists.
    pub(crate) fn kill(&self) -> Hold {
        self.end("-KILL")
    }

    /// Ends it with this signal. The same holds.
    pub(crate) fn end(&self, signal: &str) -> Hold {
        Hold::end(self.variable("MAGEFLOW_HATCHET_ENGINE"), signal)
    }

    /// Ends its database in good order: this one may forget what it was told last if it is killed. The same holds.
    pub(crate) fn end_database(&self) -> Hold {
        Hold::end(self.variable("MAGEFLOW_HATCHET_POSTGRES"), "-INT")
    }

    /// A token for so long.
    pub(crate) fn new_token(&self, life: Duration) -> String {
        let name = format!("t{}", fastrand::u32(..));
        let made = Command::new(self.variable("MAGEFLOW_HATCHET_NEW_TOKEN"))
            .args([&name, &format!("{}s", life.as_secs())])
            .output()
            .expect("the program that makes tokens");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).expect("a token").trim().to_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(services) = &self.own {
            drop(services.command("scripts/services down hatchet").output());
        }
    }
}

fn signal_to(path: &str, signal: &str) {
    let process = fs::read_to_string(format!("{path}.pid")).expect("a process id");
    let sent = Command::new("kill").args([signal, process.trim()]).status().expect("the command kill");
    assert!(sent.success(), "{signal} to {process}");
}

/// What keeps a process from being started again.
pub(crate) struct Hold(PathBuf);

impl Hold {
    fn end(path: &str, signal: &str) -> Self {
        let hold = Self(format!("{path}.hold").into());
        fs::write(&hold.0, "").expect("a file beside the process id");
        signal_to(path, signal);
        hold
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// `scripts/services` with a folder of its own, so that what it starts is nobody else's.
struct Services(PathBuf);

impl Services {
    fn new() -> Self {
        let folder = env::temp_dir().join(format!("mageflow-hatchet-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", script]).env("TMPDIR", &self.0).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
        command
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
