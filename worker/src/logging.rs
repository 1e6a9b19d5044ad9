//! Log lines, on standard error.

use crate::{
    config::Configuration,
    exit::{self, Failure},
};
use std::io::{self, IsTerminal};
use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Writes them from now on. A command that is no worker says little unless it is asked to say more.
pub(crate) fn start(config: &Configuration, is_worker: bool) -> Result<(), Failure> {
    let level = if is_worker || config.has_log_level { &config.worker.log_level } else { "warn" };
    let targets = targets(level).map_err(|reason| Failure::new(exit::CONFIGURATION, reason))?;
    let lines = fmt::layer().with_writer(io::stderr);
    let is_coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = match config.worker.structured_logging {
        true => lines.json().flatten_event(true).boxed(),
        false => lines.with_ansi(is_coloured).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(targets))
        .try_init()
        .map_err(|error| Failure::new(exit::FAILED, format!("log lines cannot be written: {error}")))
}

/// Levels as they are named here, and as Python names them.
fn targets(text: &str) -> Result<Targets, String> {
    let named = text.split(',').map(|part| match part.trim().to_ascii_lowercase().as_str() {
        "warning" => "warn".to_owned(),
        "critical" | "fatal" => "error".to_owned(),
        level @ ("off" | "error" | "warn" | "info" | "debug" | "trace") => level.to_owned(),
        _ => part.trim().to_owned(),
    });
    let named = named.collect::<Vec<_>>();
    let wrong =
        || format!("`worker.log_level` is {text:?}; error, warn, info, debug or trace are expected, or target=level");
    // A word alone would be taken for the name of a target.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    if named.iter().any(|part| !part.contains('=') && !levels.contains(&part.as_str())) {
        return Err(wrong());
    }
    named.join(",").parse().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn levels_have_two_sets_of_names() {
        for (text, level) in [("INFO", Level::INFO), ("WARNING", Level::WARN), ("critical", Level::ERROR)] {
            assert!(targets(text).unwrap().would_enable("any", &level));
        }
        let fine = targets("warn,mageflow=debug").unwrap();
        assert!(fine.would_enable("mageflow::client", &Level::DEBUG) && !fine.would_enable("other", &Level::INFO));
        for wrong in ["loud", "mageflow=loud", ""] {
            assert!(targets(wrong).unwrap_err().contains("log_level"), "{wrong}");
        }
    }
}
