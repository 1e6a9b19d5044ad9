//! Durable tasks: what they create is found again when they are retried.

use super::{
    super::{
        Environment, chapter,
        tasks::{inc, message_task, probe, with},
    },
    calls::{call, call_with, chain_of, failure, lines, ms, quiet, swarm_of, tick, value},
};
use crate::{Backoff, Error, MageflowClient, RegisteredTask, SignatureKey, Status, TaskContext, TaskError};
use serde_json::{Value, json};
use std::{future::Future, pin::Pin};

chapter!("Durable tasks";
    a_retried_durable_task_finds_the_task_that_it_started,
    a_retried_durable_task_finds_its_chain_and_swarm,
    a_retried_durable_task_finds_what_it_created_and_started_later,
    a_retried_durable_task_finds_its_transaction,
    a_retried_durable_task_finds_the_items_that_it_added,
    a_retried_durable_task_goes_on_where_it_failed,
    keyed_creations_are_found_in_any_order,
    keyed_items_are_found_in_any_order,
    another_task_in_a_retry_is_a_mismatch,
    another_message_in_a_retry_is_a_mismatch,
    another_message_at_a_later_start_is_a_mismatch,
    another_message_of_an_added_item_is_a_mismatch,
    a_task_that_is_not_durable_creates_again,
    two_runs_of_one_durable_task_create_each_their_own,
    an_interrupted_durable_task_finds_what_it_created,
    a_durable_task_that_was_only_submitted_finds_what_it_created,
);

type Creating = Pin<Box<dyn Future<Output = crate::Result<Vec<SignatureKey>>> + Send>>;

/// `creator`: notes the keys that `create` makes at each of its attempts, fails at the first one, and gives the keys of
/// the second one back. An error of `create` is its own, for good.
fn creator(durable: bool, create: fn(MageflowClient, u32) -> Creating) -> RegisteredTask {
    let creator = message_task("creator", move |context: TaskContext, _: Value| async move {
        let attempt = context.execution_info().attempt_number;
        let keys = create(context.client(), attempt).await.map_err(TaskError::terminal)?;
        let texts: Vec<_> = keys.iter().map(ToString::to_string).collect();
        probe(&context)?.note(format!("created {}", texts.join(" ")));
        if attempt == 1 { Err(TaskError::new("once more")) } else { Ok(keys) }
    });
    with(creator, |options| {
        options.retries = 1;
        options.backoff = Backoff::constant(ms(1));
        options.durable = durable;
    })
}

/// Runs the creator, and gives the keys that it noted at both attempts.
async fn both_attempts(env: &Environment, creator: RegisteredTask) -> (Vec<String>, Vec<String>) {
    let (mage, _worker) = env.start([creator, tick(), inc()]).await;
    let keys = mage.sign(call("creator")).returns::<Vec<SignatureKey>>().run(&json!({})).await.unwrap();
    for key in keys {
        let handle = mage.signature(&key);
        if handle.status().await.unwrap() != Status::Pending {
            handle.wait_result(None).await.unwrap();
        }
    }
    quiet(&mage).await;
    let created = lines(&env.probe, "created ");
    let keys = |line: &str| line.split(' ').map(str::to_owned).collect();
    (keys(&created[0]), keys(&created[1]))
}

async fn a_retried_durable_task_finds_the_task_that_it_started(env: Environment) {
    let (first, second) = both_attempts(
        &env,
        creator(true, |client, _| {
            Box::pin(async move {
                let one = client.sign(call("tick")).run_no_wait(&1).await?;
                let two = client.sign(call("tick")).run_no_wait(&2).await?;
                let same = client.sign(call("tick")).run_no_wait(&2).await?;
                Ok([one, two, same].map(|handle| handle.key().clone()).to_vec())
            })
        }),
    )
    .await;
    assert_eq!(first, second);
    assert!(first[0] != first[1] && first[1] != first[2], "each creation is one of its own");
    assert_eq!((env.probe.count("tick 1"), env.probe.count("tick 2")), (1, 2));
}

async fn a_retried_durable_task_finds_its_chain_and_swarm(env: Environment) {
    let (first, second) = both_attempts(
        &env,
        creator(true, |client, _| {
            Box::pin(async move {
                let chain = client.chain(vec![call("tick"), call("inc"), call("tick")]).run_no_wait(&1).await?;
                let swarm = swarm_of([call("tick"), call("tick")]).on_success(call_with("tick", json!({"x": 6})));
                let swarm = client.sign(swarm).run_no_wait(&5).await?;
                Ok(vec![chain.key().clone(), swarm.key().clone()])
            })
        }),
    )
    .await;
    assert_eq!(first, second);
    env.probe.until_noted("tick 6", 1).await;
    let mut ticks = lines(&env.probe, "tick ");
    ticks.sort();
    assert_eq!(ticks, ["1", "2", "5", "5", "6"]);
}

async fn a_retried_durable_task_finds_what_it_created_and_started_later(env: Environment) {
    let (first, second) = both_attempts(
        &env,
        creator(true, |client, _| {
            Box::pin(async move {
                let stored = client.sign(call("tick")).create().await?;
                let started = client.chain(vec![call("tick"), call("tick")]).create().await?;
                started.run_no_wait(&1).await?;
                Ok(vec![stored.key().clone(), started.key().clone()])
            })
        }),
    )
    .await;
    assert_eq!(first, second);
    assert_eq!(lines(&env.probe, "tick "), ["1", "1"]);
}

async fn a_retried_durable_task_finds_its_transaction(env: Environment) {
    let (first, second) = both_attempts(
        &env,
        creator(true, |client, _| {
            Box::pin(async move {
                let mut transaction = client.transaction();
                let (one, two) =
                    (transaction.sign(call("tick")), transaction.sign(chain_of([call("tick"), call("tick")])));
                let created = transaction.commit().await?;
                let (one, two) = (created.handle(&one)?, created.handle(&two)?);
                two.run_no_wait(&2).await?;
                Ok(vec![one.key().clone(), two.key().clone()])
            })
        }),
    )
    .await;
    assert_eq!(first, second);
    assert_eq!(lines(&env.probe, "tick "), ["2", "2"]);
}

async fn a_retried_durable_task_finds_the_items_that_it_added(env: Environment) {
    let (first, second) = both_attempts(
        &env,
        creator(true, |client, _| {
            Box::pin(async move {
                let swarm = client.swarm([call("tick")]).run_no_wait(&0).await?;
                let one = swarm.run_in_swarm(call("tick"), &1).await?;
                let more = swarm.run_tasks_in_swarm([call("tick"), call("tick")], &[2, 3]).await?;
                swarm.close().await?;
                let keys = [swarm.key(), one.key(), more[0].key(), more[1].key()];
                Ok(keys.map(Clone::clone).to_vec())
            })
        }),
    )
    .await;
    assert_eq!(first, second);
    let mut ticks = lines(&env.probe, "tick ");
    ticks.sort();
    assert_eq!(ticks, ["0", "1", "2", "3"]);
}

async fn a_retried_durable_task_goes_on_where_it_failed(env: Environment) {
    let (first, second) = both_attempts(
        &env,
        creator(true, |client, attempt| {
            Box::pin(async move {
                let mut keys = vec![client.sign(call("tick")).run_no_wait(&1).await?.key().clone()];
                if attempt > 1 {
                    keys.push(client.sign(call("tick")).run_no_wait(&2).await?.key().clone());
                }
                Ok(keys)
            })
        }),
    )
    .await;
    assert_eq!((first.len(), second.len(), &first[0]), (1, 2, &second[0]));
    let mut ticks = lines(&env.probe, "tick ");
    ticks.sort();
    assert_eq!(ticks, ["1", "2"]);
}

async fn keyed_creations_are_found_in_any_order(env: Environment) {
    let (mut first, mut second) = both_attempts(
        &env,
        creator(true, |client, attempt| {
            Box::pin(async move {
                let mut names = ["a", "b", "c"];
                if attempt > 1 {
                    names.reverse();
                }
                let mut keys = Vec::new();
                for name in names {
                    keys.push(client.sign(call("tick").keyed(name)).run_no_wait(&name).await?.key().clone());
                }
                Ok(keys)
            })
        }),
    )
    .await;
    second.reverse();
    assert_eq!(first, second);
    first.dedup();
    let mut ticks = lines(&env.probe, "tick ");
    ticks.sort();
    assert_eq!((first.len(), ticks), (3, ["a", "b", "c"].map(|name| format!("{name:?}")).to_vec()));
}

async fn keyed_items_are_found_in_any_order(env: Environment) {
    let (first, mut second) = both_attempts(
        &env,
        creator(true, |client, attempt| {
            Box::pin(async move {
                let swarm = client.swarm(Vec::<super::calls::Call>::new()).keyed("swarm").run_no_wait(&0).await?;
                let mut names = ["a", "b", "c"];
                if attempt > 1 {
                    names.reverse();
                }
                let mut keys = Vec::new();
                for name in names {
                    keys.push(swarm.run_in_swarm(call("tick").keyed(name), &name).await?.key().clone());
                }
                if attempt > 1 {
                    swarm.close().await?;
                }
                Ok(keys)
            })
        }),
    )
    .await;
    second.reverse();
    assert_eq!(first, second);
    // The creator does not wait for its items.
    let ticks = |lines: &[String]| lines.iter().filter(|line| line.starts_with("tick ")).count();
    env.probe.until("each item ran", |lines| ticks(lines) >= 3).await;
    assert_eq!(ticks(&env.probe.lines()), 3);
}

/// Runs a creator that creates something else at its second attempt.
async fn mismatch(env: &Environment, creator: RegisteredTask) {
    let (mage, _worker) = env.start([creator, tick(), inc()]).await;
    let error = failure(mage.sign(call("creator")).run(&json!({})).await);
    assert_eq!(error.attempt, 2);
    assert!(error.message.contains("created another signature"), "{}", error.message);
    quiet(&mage).await;
    assert!(!lines(&env.probe, "tick ").contains(&"2".to_owned()), "{:?}", env.probe.lines());
}

async fn another_task_in_a_retry_is_a_mismatch(env: Environment) {
    mismatch(
        &env,
        creator(true, |client, attempt| {
            Box::pin(async move {
                let task = if attempt == 1 { "inc" } else { "tick" };
                client.sign(call(task)).run_no_wait(&2).await.map(|handle| vec![handle.key().clone()])
            })
        }),
    )
    .await;
}

async fn another_message_in_a_retry_is_a_mismatch(env: Environment) {
    mismatch(
        &env,
        creator(true, |client, attempt| {
            Box::pin(async move {
                client.sign(call("tick")).run_no_wait(&attempt).await.map(|handle| vec![handle.key().clone()])
            })
        }),
    )
    .await;
}

async fn another_message_at_a_later_start_is_a_mismatch(env: Environment) {
    mismatch(
        &env,
        creator(true, |client, attempt| {
            Box::pin(async move {
                let handle = client.sign(call("tick")).create().await?;
                handle.run_no_wait(&attempt).await?;
                Ok(vec![handle.key().clone()])
            })
        }),
    )
    .await;
}

async fn another_message_of_an_added_item_is_a_mismatch(env: Environment) {
    mismatch(
        &env,
        creator(true, |client, attempt| {
            Box::pin(async move {
                let swarm = client.swarm(Vec::<super::calls::Call>::new()).run_no_wait(&0).await?;
                let item = swarm.run_in_swarm(call("tick"), &attempt).await?;
                Ok(vec![item.key().clone()])
            })
        }),
    )
    .await;
}

async fn a_task_that_is_not_durable_creates_again(env: Environment) {
    let (first, second) = both_attempts(
        &env,
        creator(false, |client, _| {
            Box::pin(async move {
                let task = client.sign(call("tick").keyed("same")).run_no_wait(&1).await?;
                let swarm = client.swarm(Vec::<super::calls::Call>::new()).run_no_wait(&0).await?;
                swarm.run_in_swarm(call("tick"), &2).await?;
                swarm.close().await?;
                Ok(vec![task.key().clone(), swarm.key().clone()])
            })
        }),
    )
    .await;
    assert!(first[0] != second[0] && first[1] != second[1]);
    env.probe.until_noted("tick 1", 2).await;
    env.probe.until_noted("tick 2", 2).await;
}

fn one_tick(client: MageflowClient, _: u32) -> Creating {
    Box::pin(async move { Ok(vec![client.sign(call("tick")).run_no_wait(&1).await?.key().clone()]) })
}

async fn two_runs_of_one_durable_task_create_each_their_own(env: Environment) {
    let (mage, _worker) = env.start([creator(true, one_tick), tick(), inc()]).await;
    let run = async || mage.sign(call("creator")).returns::<Vec<SignatureKey>>().run(&json!({})).await.unwrap();
    let (first, second) = (run().await, run().await);
    assert_ne!(first, second);
    env.probe.until_noted("tick 1", 2).await;
    quiet(&mage).await;
    assert_eq!(env.probe.count("tick 1"), 2);
}

async fn an_interrupted_durable_task_finds_what_it_created(env: Environment) {
    let creating = message_task("creating", |context: TaskContext, _: Value| async move {
        let key = context.client().sign(call("tick")).run_no_wait(&1).await?.key().clone();
        let probe = probe(&context)?;
        probe.note(format!("created {key}"));
        probe.pass().await;
        Ok(key)
    });
    let brisk = |builder| super::calls::brisk(builder);
    let (mage, _worker) =
        env.start_with([with(creating, |options| options.durable = true), tick(), inc()], brisk).await;
    let handle = mage.sign(call("creating")).run_no_wait(&json!({})).await.unwrap();
    env.probe.until("it has created", |lines| lines.iter().any(|line| line.starts_with("created"))).await;
    handle.interrupt().await.unwrap();
    assert!(matches!(handle.run_no_wait(&json!({})).await, Err(Error::AlreadyStarted { .. })));
    handle.resume().await.unwrap();
    env.probe
        .until("it has created again", |lines| lines.iter().filter(|line| line.starts_with("created")).count() == 2)
        .await;
    env.probe.let_through(2);
    let key = value(handle.wait().await);
    assert_eq!(lines(&env.probe, "created "), [key.as_str().unwrap(), key.as_str().unwrap()]);
    quiet(&mage).await;
    assert_eq!(env.probe.count("tick 1"), 1);
}

async fn a_durable_task_that_was_only_submitted_finds_what_it_created(env: Environment) {
    let (mage, _worker) = env.start([creator(true, one_tick), tick(), inc()]).await;
    let id = mage.submit("creator", &json!({})).await.unwrap();
    let keys: Vec<SignatureKey> = mage.wait(&id).await.unwrap().output().unwrap();
    let created = lines(&env.probe, "created ");
    assert_eq!(created, [keys[0].to_string(), keys[0].to_string()]);
    mage.signature(&keys[0]).wait().await.unwrap();
    quiet(&mage).await;
    assert_eq!(env.probe.count("tick 1"), 1);
}
