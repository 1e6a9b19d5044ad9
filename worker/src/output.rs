//! What commands answer: tables and words for people, JSON for programs.

use crate::exit::{self, Failure};
use mageflow::{SignatureResult, TaskInfo, TaskResult, TaskStatus, WorkflowDefinition, WorkflowResult};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{self, Write};

/// Where answers go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

/// One line of `config show`.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    pub(crate) key: &'static str,
    pub(crate) value: Option<String>,
    pub(crate) source: String,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// On standard error, so that nobody takes it for an answer.
    pub(crate) fn failure(self, failure: &Failure) {
        let Some(message) = &failure.message else { return };
        let line = match self.json {
            true => json!({"error": message, "exit_status": failure.code}).to_string(),
            false => format!("error: {message}"),
        };
        // There is nobody left to be told.
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// One answer: this line, or this value.
    pub(crate) fn answer(self, line: &str, value: &impl Serialize) -> Result<(), Failure> {
        match self.json {
            true => print(&serde_json::to_string(value).map_err(|error| Failure::new(exit::FAILED, error))?),
            false => print(line),
        }
    }

    fn table(self, head: &[&str], rows: &[Vec<String>], value: &impl Serialize) -> Result<(), Failure> {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([head[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..head.len()).map(width).collect();
        let head = head.iter().map(|name| (*name).to_owned()).collect();
        let lines = [&head].into_iter().chain(rows).map(|row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        self.answer(&lines.collect::<Vec<_>>().join("\n"), value)
    }

    pub(crate) fn settings(self, rows: &[Shown]) -> Result<(), Failure> {
        let cells = |row: &Shown| vec![row.key.into(), row.value.clone().unwrap_or_default(), row.source.clone()];
        self.table(&["SETTING", "VALUE", "SOURCE"], &rows.iter().map(cells).collect::<Vec<_>>(), &rows)
    }

    pub(crate) fn tasks(self, tasks: &[TaskInfo]) -> Result<(), Failure> {
        let cells = |task: &TaskInfo| {
            let parameters = task.parameters.iter();
            let parameters = parameters.map(|one| format!("{}{}", one.name, if one.required { "" } else { "?" }));
            let timeout = task.options.timeout.map_or_else(|| "-".to_owned(), |timeout| format!("{timeout:?}"));
            vec![
                task.name.to_string(),
                parameters.collect::<Vec<_>>().join(", "),
                task.options.queue.clone().unwrap_or_else(|| "default".to_owned()),
                task.options.retries.to_string(),
                timeout,
            ]
        };
        let rows: Vec<_> = tasks.iter().map(cells).collect();
        self.table(&["TASK", "PARAMETERS", "QUEUE", "RETRIES", "TIMEOUT"], &rows, &tasks)
    }

    pub(crate) fn workflows(self, workflows: &[WorkflowDefinition]) -> Result<(), Failure> {
        let cells = |workflow: &WorkflowDefinition| {
            let stages = workflow.stages().iter().map(|steps| {
                let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
                if names.len() == 1 { names[0].to_owned() } else { format!("({})", names.join(" | ")) }
            });
            vec![workflow.name().to_owned(), stages.collect::<Vec<_>>().join(" > ")]
        };
        self.table(&["WORKFLOW", "STEPS"], &workflows.iter().map(cells).collect::<Vec<_>>(), &workflows)
    }

    /// A signature and everything in it.
    pub(crate) fn steps(self, result: &WorkflowResult) -> Result<(), Failure> {
        fn rows(result: &WorkflowResult, depth: usize, all: &mut Vec<Vec<String>>) {
            let signature = &result.signature;
            let outcome = match (&signature.result, &signature.error) {
                (Some(json), _) => json.as_str().to_owned(),
                (None, Some(failure)) => failure.to_string(),
                (None, None) => String::new(),
            };
            all.push(vec![
                format!("{:1$}{2}", "", 2 * depth, signature.name),
                format!("{:?}", signature.status),
                outcome,
            ]);
            result.steps.iter().for_each(|step| rows(step, depth + 1, all));
        }
        let mut all = Vec::new();
        rows(result, 0, &mut all);
        self.table(&["STEP", "STATUS", "RESULT"], &all, result)
    }

    /// What a task came to. Its failure, or its not having ended, is the end of the command as well.
    pub(crate) fn result(self, result: &TaskResult, has_waited: bool) -> Result<(), Failure> {
        let ended = match result.output::<Value>() {
            Err(error) if has_waited || result.is_failed() || result.is_cancelled() => Some(Failure::from(error)),
            _ => None,
        };
        let line = match (result.status, &result.result) {
            (TaskStatus::Completed, Some(json)) if has_waited => json.as_str().to_owned(),
            (TaskStatus::Completed, Some(json)) => format!("completed: {}", json.as_str()),
            (status, _) => format!("{status:?}").to_lowercase(),
        };
        if self.json || ended.is_none() {
            self.answer(&line, result)?;
        }
        match ended {
            None => Ok(()),
            Some(failure) if self.json => Err(Failure::shown(failure.code)),
            Some(failure) => Err(failure),
        }
    }

    /// The same for a signature.
    pub(crate) fn signature(self, result: &SignatureResult, has_waited: bool) -> Result<(), Failure> {
        let ended = match result.output::<Value>() {
            Err(error) => Some(Failure::from(error)),
            Ok(_) => None,
        };
        let mut line = match (&result.result, has_waited) {
            (Some(json), true) => json.as_str().to_owned(),
            (Some(json), false) => format!("{:?}: {}", result.status, json.as_str()),
            (None, _) => format!("{:?}", result.status),
        };
        if let (Some(progress), false) = (&result.progress, has_waited) {
            line = format!("{line} ({} of {} done, {} failed)", progress.done, progress.total, progress.failed);
        }
        if self.json || ended.is_none() {
            self.answer(&line, result)?;
        }
        match ended {
            None => Ok(()),
            Some(failure) if self.json => Err(Failure::shown(failure.code)),
            Some(failure) => Err(failure),
        }
    }

    pub(crate) fn completions(self, shell: clap_complete::Shell, command: &mut clap::Command) -> Result<(), Failure> {
        let name = command.get_name().to_owned();
        let mut text = Vec::new();
        clap_complete::generate(shell, command, name, &mut text);
        print(String::from_utf8_lossy(&text).trim_end())
    }

    pub(crate) fn man_page(self, command: clap::Command) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text).map_err(|error| Failure::new(exit::FAILED, error))?;
        print(String::from_utf8_lossy(&text).trim_end())
    }
}

/// Whoever reads may have gone: `… | head -1` is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(exit::FAILED, error)),
        _ => Ok(()),
    }
}
