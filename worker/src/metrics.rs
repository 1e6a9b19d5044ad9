//! What the worker does, in the text format of Prometheus and as JSON for autoscalers. Pure.

use mageflow::{TaskCounts, WorkerSnapshot};
use serde::Serialize;
use std::fmt::Write;

/// What there is to say about a worker besides what it counts.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) engine: String,
    pub(crate) name: String,
}

/// The body of `/metrics`.
pub(crate) fn prometheus(about: &About, snapshot: &WorkerSnapshot, is_alive: bool, is_ready: bool) -> String {
    let mut text = String::new();
    let mut one = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
        // Writing to a text does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let alone = |value: f64| [(String::new(), value)];
    let info = format!(
        "{{engine=\"{}\",worker=\"{}\",version=\"{}\"}}",
        escaped(&about.engine),
        escaped(&about.name),
        env!("CARGO_PKG_VERSION")
    );
    one("mageflow_worker_info", "gauge", "What it is.", &[(info, 1.0)]);
    one("mageflow_worker_alive", "gauge", "Whether /livez says so.", &alone(f64::from(u8::from(is_alive))));
    one("mageflow_worker_ready", "gauge", "Whether /readyz says so.", &alone(f64::from(u8::from(is_ready))));
    one("mageflow_worker_slots", "gauge", "How many tasks it can run at once.", &alone(number(snapshot.slots)));
    one("mageflow_worker_running", "gauge", "How many it runs.", &alone(number(snapshot.running)));
    if let Some(silence) = snapshot.silence {
        let help = "Since when nothing was heard of its fetching.";
        one("mageflow_worker_silence_seconds", "gauge", help, &alone(silence.as_secs_f64()));
    }
    let of = |task: &TaskCounts| escaped(task.name.as_ref().map_or("", |name| name.as_str()));
    let running: Vec<_> =
        snapshot.tasks.iter().map(|task| (format!("{{task=\"{}\"}}", of(task)), number(task.running))).collect();
    one("mageflow_task_running", "gauge", "Attempts that run; those of unknown tasks have no name.", &running);
    let time = |task: &TaskCounts| (format!("{{task=\"{}\"}}", of(task)), task.time.as_secs_f64());
    let times: Vec<_> = snapshot.tasks.iter().map(time).collect();
    one("mageflow_task_seconds_total", "counter", "How long all attempts took together.", &times);
    let ends: Vec<_> = snapshot.tasks.iter().flat_map(|task| ends(&of(task), task)).collect();
    one("mageflow_task_attempts_total", "counter", "Attempts by how they ended.", &ends);
    text
}

fn ends(name: &str, task: &TaskCounts) -> Vec<(String, f64)> {
    let ends = [
        ("done", task.done),
        ("failed", task.failed),
        ("retried", task.retried),
        ("cancelled", task.cancelled),
        ("skipped", task.skipped),
        ("given_back", task.given_back),
    ];
    let sample = |(end, count)| (format!("{{task=\"{name}\",end=\"{end}\"}}"), number(count));
    ends.into_iter().map(sample).collect()
}

/// What a counter has: beyond 2^53 the last digits are lost, as the format has it.
fn number(count: impl TryInto<u64>) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let number = count.try_into().unwrap_or(u64::MAX) as f64;
    number
}

/// As the format has it within quotes.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The body of `/autoscale`.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Load {
    queues: Vec<String>,
    slots: usize,
    running: usize,
    free: usize,
    /// From 0 to 1.
    utilization: f64,
}

impl From<WorkerSnapshot> for Load {
    fn from(snapshot: WorkerSnapshot) -> Self {
        let WorkerSnapshot { queues, slots, running, .. } = snapshot;
        let utilization = if slots == 0 { 0.0 } else { (number(running) / number(slots)).min(1.0) };
        Self { queues, slots, running, free: slots.saturating_sub(running), utilization }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_has_its_help_and_names_are_escaped() {
        let about = About { engine: "embedded".into(), name: "a\"b\\c\nd".into() };
        let text = prometheus(&about, &WorkerSnapshot::default(), true, false);
        assert!(text.contains(r#"worker="a\"b\\c\nd""#), "{text}");
        assert!(text.contains("mageflow_worker_alive 1\n") && text.contains("mageflow_worker_ready 0\n"), "{text}");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        for name in samples.map(|line| line.split(['{', ' ']).next().unwrap()) {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }

    #[test]
    fn the_load_of_no_worker_is_nothing() {
        assert_eq!(Load::from(WorkerSnapshot::default()).utilization, 0.0);
    }
}
