//! A Python and a Rust worker on one queue.

use crate::{
    on_brokers,
    peers::PATIENCE,
    tasks,
    world::{World, ended},
};
use futures_util::future::try_join_all;
use mageflow::{SubmitOptions, args};
use serde_json::json;

on_brokers! {
    tasks_are_run_once_by_one_of_two_workers: list stream;
}

const TASKS: u32 = 2000;

async fn tasks_are_run_once_by_one_of_two_workers(world: World) {
    let _python = world.peers.start_worker(world.kind, &world.queue, false);
    let mage = world.builder(&world.queue).register(tasks::shared(&world.peers.url).await).build().await.unwrap();
    // It runs once it has answered.
    assert!(ended(&mage, "py:double", args![1], &SubmitOptions::new()).await.is_completed());
    let _worker = mage.worker("interop").concurrency(4).spawn().await.unwrap();
    let prefix = format!("{}:run", world.queue);
    let script = r#"
        prefix, first, last = args
        task = of(broker, "both:count")
        kicked = []
        for start in range(first, last, 50):  # each has a connection
            kicked += await asyncio.gather(*[task.kiq(prefix, n) for n in range(start, min(start + 50, last))])
        results = [await one.wait_result(check_interval=0.05, timeout=60) for one in kicked]
        return [result.return_value for result in results if not result.is_err]
    "#;
    let half = TASKS / 2;
    let of_python = world.python(script, json!([prefix, 0, half]));
    let of_rust = async {
        let ids = mage.submit_many((half..TASKS).map(|n| ("both:count", args![prefix, n]))).await.unwrap();
        let ended = try_join_all(ids.iter().map(|id| mage.wait_timeout(id, PATIENCE))).await.unwrap();
        ended.iter().map(|one| one.output::<u64>().unwrap()).collect::<Vec<_>>()
    };
    let (of_python, of_rust) = tokio::join!(of_python, of_rust);
    assert_eq!(of_python, json!(vec![1; half as usize]));
    assert_eq!(of_rust, vec![1; half as usize]);
    let counts = |names: &mut dyn Iterator<Item = String>| {
        let mut read = redis::cmd("MGET");
        names.for_each(|name| {
            read.arg(format!("{prefix}:{name}"));
        });
        world.ask::<Vec<Option<u32>>>(&read)
    };
    assert_eq!(counts(&mut (0..TASKS).map(|n| n.to_string())), vec![Some(1); TASKS as usize]);
    let by = counts(&mut ["by:python", "by:rust"].map(String::from).into_iter());
    let (python, rust) = (by[0].unwrap_or(0), by[1].unwrap_or(0));
    println!("{}: {python} run by Python, {rust} by Rust", world.kind.name());
    assert_eq!(python + rust, TASKS);
    assert!(python > 0 && rust > 0, "{python} run by Python, {rust} by Rust");
}
