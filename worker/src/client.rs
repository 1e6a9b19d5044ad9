//! Commands that submit, look and steer.

use crate::{
    cli::{Command, Submit, Wait},
    config::Configuration,
    exit::{self, Failure},
    output::Output,
    progress,
};
use mageflow::{Arguments, Mageflow, MageflowBuilder, SignatureKey, SubmitOptions, TaskId};
use serde_json::{Map, Value, json};
use std::{str::FromStr, time::Instant};

/// On the engine of the configuration, unless the program has chosen one.
pub(crate) fn on_engine(mage: MageflowBuilder, config: &Configuration) -> MageflowBuilder {
    match &config.backend {
        Some(backend) => mage.backend(backend.clone()),
        None => mage,
    }
}

/// Carries out one command.
pub(crate) fn run(
    mage: MageflowBuilder,
    config: &Configuration,
    command: Command,
    output: Output,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::FAILED, format!("cannot start: {error}")))?;
    let carried_out = runtime.block_on(async {
        // What is wrong with it is told before anything is connected.
        let command = Checked::new(command)?;
        let began = Instant::now();
        let mage = on_engine(mage, config).build().await?;
        command.carry_out(&mage, began, config, output).await
    });
    runtime.shutdown_background();
    carried_out
}

/// A command whose words were read.
enum Checked {
    Submit(Submit, Arguments),
    TaskResult(TaskId, Wait),
    SignatureResult(SignatureKey, Wait),
    Steps(SignatureKey),
    CancelTask(TaskId),
    Cancel(SignatureKey),
    Pause(SignatureKey),
    Resume(SignatureKey),
    Ping,
}

impl Checked {
    fn new(command: Command) -> Result<Self, Failure> {
        Ok(match command {
            Command::Submit(submit) => {
                let arguments = arguments(&submit.args, submit.kwargs.as_deref())?;
                Self::Submit(submit, arguments)
            }
            Command::Result { id, steps: true, .. } => Self::Steps(key(&id)?),
            Command::Result { id, signature: true, wait, .. } => Self::SignatureResult(key(&id)?, wait),
            Command::Result { id, signature: false, wait, .. } => Self::TaskResult(id.into(), wait),
            Command::Cancel { id, signature: true } => Self::Cancel(key(&id)?),
            Command::Cancel { id, signature: false } => Self::CancelTask(id.into()),
            Command::Pause { key: text } => Self::Pause(key(&text)?),
            Command::Resume { key: text } => Self::Resume(key(&text)?),
            _ => Self::Ping,
        })
    }

    async fn carry_out(
        self,
        mage: &Mageflow,
        began: Instant,
        config: &Configuration,
        output: Output,
    ) -> Result<(), Failure> {
        let done = |what: &str, id: &dyn std::fmt::Display| {
            output.answer(&format!("{what} {id}"), &json!({"id": id.to_string(), "done": what}))
        };
        match self {
            Self::Submit(submit, arguments) => submitted(mage, submit, arguments, output).await,
            Self::TaskResult(id, wait) => {
                let result = match wait.wait {
                    true => ended(mage, &id, &wait).await?,
                    false => mage.get_result(&id).await?,
                };
                output.result(&result, wait.wait)
            }
            Self::SignatureResult(key, wait) => {
                let result = match wait.wait {
                    true => progress::wait(&mage.signature(&key), wait.timeout).await?,
                    false => mage.signature_result(&key).await?,
                };
                output.signature(&result, wait.wait)
            }
            Self::Steps(key) => output.steps(&mage.get_workflow_result(&key).await?),
            Self::CancelTask(id) => {
                mage.cancel(&id).await?;
                done("cancelled", &id)
            }
            Self::Cancel(key) => {
                mage.cancel(&key).await?;
                done("cancelled", &key)
            }
            Self::Pause(key) => {
                mage.pause(&key).await?;
                done("paused", &key)
            }
            Self::Resume(key) => {
                mage.resume(&key).await?;
                done("resumed", &key)
            }
            Self::Ping => {
                let limit = config.worker.health_timeout;
                let answer = tokio::time::timeout(limit, mage.ping()).await;
                answer.map_err(|_| Failure::new(exit::UNAVAILABLE, format!("no answer within {limit:?}")))??;
                let (engine, millis) = (mage.adapter().name(), began.elapsed().as_millis());
                output.answer(
                    &format!("{engine} can be reached ({millis} ms)"),
                    &json!({"engine": engine, "ok": true, "millis": millis}),
                )
            }
        }
    }
}

async fn submitted(mage: &Mageflow, submit: Submit, arguments: Arguments, output: Output) -> Result<(), Failure> {
    let Submit { name, queue, delay, wait, .. } = submit;
    let is_workflow = mage.workflows().iter().any(|workflow| workflow.name() == name);
    if is_workflow && (queue.is_some() || delay.is_some()) {
        return Err(Failure::new(
            exit::USAGE,
            "--queue and --delay are for tasks: the steps of a workflow have their own",
        ));
    }
    let mut options = SubmitOptions::new();
    if let Some(queue) = &queue {
        options = options.queue(queue);
    }
    if let Some(delay) = delay {
        options = options.run_after(delay);
    }
    let worker = match (mage.capabilities().shared_queue, wait.wait) {
        (true, _) => None,
        (false, true) => Some(mage.worker("submit").queues(queue).spawn().await?),
        (false, false) => {
            let reason = format!(
                "the {} engine runs tasks inside one process: with --wait the task is run in this one",
                mage.adapter().name()
            );
            return Err(Failure::new(exit::UNSUPPORTED, reason));
        }
    };
    let answered = match is_workflow {
        true => workflow(mage, &name, arguments, &wait, output).await,
        false => task(mage, name, arguments, &options, &wait, output).await,
    };
    if let Some(worker) = worker {
        worker.shutdown_now().await?;
    }
    answered
}

async fn task(
    mage: &Mageflow,
    name: String,
    arguments: Arguments,
    options: &SubmitOptions,
    wait: &Wait,
    output: Output,
) -> Result<(), Failure> {
    let id = mage.submit_opts(name, arguments, options).await?;
    match wait.wait {
        true => output.result(&ended(mage, &id, wait).await?, true),
        false => output.answer(&id.to_string(), &json!({"task_id": id})),
    }
}

async fn workflow(
    mage: &Mageflow,
    name: &str,
    arguments: Arguments,
    wait: &Wait,
    output: Output,
) -> Result<(), Failure> {
    let key = mage.submit_workflow(name, arguments).await?;
    match wait.wait {
        true => output.signature(&progress::wait(&mage.signature(&key), wait.timeout).await?, true),
        false => output.answer(&key.to_string(), &json!({"key": key})),
    }
}

async fn ended(mage: &Mageflow, id: &TaskId, wait: &Wait) -> mageflow::Result<mageflow::TaskResult> {
    match wait.timeout {
        Some(limit) => mage.wait_timeout(id, limit).await,
        None => mage.wait(id).await,
    }
}

fn key(text: &str) -> Result<SignatureKey, Failure> {
    SignatureKey::from_str(text).map_err(|error| Failure::new(exit::USAGE, error))
}

/// What stands on the command line, as a task takes it.
fn arguments(args: &[String], kwargs: Option<&str>) -> Result<Arguments, Failure> {
    let mut arguments = Arguments::none();
    for text in args {
        // Text that is no JSON is a text: nobody wants to write quotes within quotes.
        arguments = arguments.arg(&serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())));
    }
    let Some(kwargs) = kwargs else { return Ok(arguments) };
    let kwargs: Map<String, Value> = serde_json::from_str(kwargs)
        .map_err(|error| Failure::new(exit::USAGE, format!("--kwargs is not a JSON object: {error}")))?;
    Ok(kwargs.iter().fold(arguments, |arguments, (name, value)| arguments.kwarg(name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_json_or_text() {
        let args = ["1", "text", "\"2\"", "[true]"].map(str::to_owned);
        let arguments = arguments(&args, Some(r#"{"a": null}"#)).unwrap();
        assert_eq!(arguments.args().unwrap().as_str(), r#"[1,"text","2",[true]]"#);
        assert_eq!(arguments.kwargs().unwrap().as_str(), r#"{"a":null}"#);
        assert_eq!(super::arguments(&[], Some("[]")).unwrap_err().code, exit::USAGE);
    }
}
