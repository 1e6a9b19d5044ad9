//! Waiting for a chain, a swarm or a workflow, with a bar where somebody looks at a terminal.

use mageflow::{Error, Json, SignatureHandle, SignatureResult, Untyped};
use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// How often the bar is drawn.
const EVERY: Duration = Duration::from_millis(250);
/// How many places it has.
const WIDTH: u32 = 30;

/// Waits for its end, for no longer than `limit`.
pub(crate) async fn wait(
    handle: &SignatureHandle<Untyped, Json>,
    limit: Option<Duration>,
) -> mageflow::Result<SignatureResult> {
    if !io::stderr().is_terminal() {
        return handle.wait_result(limit).await;
    }
    let until = limit.map(|limit| (limit, Instant::now()));
    let ended = loop {
        let left = until.map(|(limit, began)| limit.saturating_sub(began.elapsed()));
        match handle.wait_result(Some(left.unwrap_or(EVERY).min(EVERY))).await {
            Err(Error::WaitTimeout { .. }) if left.is_none_or(|left| !left.is_zero()) => {
                if let Some(progress) = handle.result().await?.progress {
                    draw(&bar(progress.done + progress.failed + progress.cancelled, progress.total, progress.failed));
                }
            }
            Err(Error::WaitTimeout { limit: short }) => {
                break Err(Error::WaitTimeout { limit: limit.unwrap_or(short) });
            }
            other => break other,
        }
    };
    // The answer stands alone.
    draw("");
    ended
}

/// In place of what was drawn before.
fn draw(line: &str) {
    let _ = write!(io::stderr(), "\r\u{1b}[K{line}").and_then(|()| io::stderr().flush());
}

fn bar(ended: u32, total: u32, failed: u32) -> String {
    let filled = (WIDTH * ended.min(total)).checked_div(total).unwrap_or(0);
    let (done, left) = ("#".repeat(filled as usize), " ".repeat((WIDTH - filled) as usize));
    let failed = if failed == 0 { String::new() } else { format!(", {failed} failed") };
    format!("[{done}{left}] {ended}/{total}{failed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_what_it_shows() {
        assert_eq!(bar(0, 0, 0), format!("[{}] 0/0", " ".repeat(30)));
        assert_eq!(bar(1, 2, 0), format!("[{}{}] 1/2", "#".repeat(15), " ".repeat(15)));
        assert_eq!(bar(3, 3, 1), format!("[{}] 3/3, 1 failed", "#".repeat(30)));
    }
}
