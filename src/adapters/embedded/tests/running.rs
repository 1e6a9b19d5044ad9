//! What runs, where, and what it is told.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_task_runs_and_its_result_is_told() {
    let t = Test::new();
    let id = t.send("ok").await;
    assert_eq!(t.status(&id).await, TaskStatus::Pending);
    let _worker = t.worker(2).await;
    let result = t.wait(&id).await;
    assert_eq!((result.status, result.attempt), (TaskStatus::Completed, 1));
    assert_eq!(result.output::<String>().unwrap(), "done");
    assert!(result.started_at.unwrap() <= result.completed_at.unwrap());
    assert_eq!(result, t.workflow.result(&id).await.unwrap());
    assert_eq!(t.workflow.run(call("fail")).await.unwrap().error.unwrap().message, "no");
    assert!(t.workflow.run(call("cancel")).await.unwrap().is_cancelled());
    assert!(is_unknown(t.workflow.result(&TaskId::new()).await));
    assert!(is_unknown(t.workflow.cancel(&TaskId::new()).await));
}

#[tokio::test(start_paused = true)]
async fn the_facts_of_a_run_are_told() {
    #[derive(Debug)]
    struct Facts(Mutex<Option<Delivery>>);
    #[async_trait]
    impl DeliveryHandler for Facts {
        async fn handle(&self, delivery: Delivery) -> Disposition {
            *lock(&self.0) = Some(delivery);
            Disposition::Done(Json::null())
        }
    }
    let t = Test::new();
    let mut invocation = signed("facts");
    let data = serde_json::json!({"tenant": "a"}).as_object().unwrap().clone();
    invocation.task_data = Some(Arc::new(data.clone()));
    invocation.options = Arc::new(TaskOptions { priority: Priority::High, ..TaskOptions::default() });
    let facts = Arc::new(Facts(Mutex::default()));
    let options =
        WorkerOptions::new("name".into(), vec![], "mageflow".into(), 1, S(1), Arc::new([]), Shutdown::default());
    let worker = tokio::spawn(t.engine.worker(options).unwrap().start(facts.clone(), CancellationToken::new()));
    let (id, mark) = (invocation.id.clone(), invocation.mark.clone());
    t.workflow.run(invocation).await.unwrap();
    let delivery = lock(&facts.0).take().unwrap();
    let context = delivery.info.raw_context::<EmbeddedContext>().unwrap();
    assert_eq!((context.queue(), context.priority(), context.worker()), ("default", Priority::High, "name"));
    assert_eq!(delivery.mark, mark);
    assert_eq!(delivery.options.as_ref().unwrap().priority, Priority::High);
    assert_eq!(delivery.arguments.unwrap().args().unwrap().as_str(), "[1]");
    let told = t.engine.extract_execution_info(&*delivery.info.raw_context).unwrap();
    for info in [&delivery.info, &told] {
        assert_eq!((&info.workflow_id, info.task_name.as_str(), info.attempt_number), (&id, "facts", 1));
        assert_eq!(*info.task_data, data);
        assert!(info.queued_at.is_some() && info.deadline.is_none());
    }
    worker.abort();
}

#[tokio::test(start_paused = true)]
async fn workers_serve_their_queues_alone() {
    let t = Test::new();
    let other = t.workflow.run_no_wait(call_with("ok", |options| options.queue = Some("other".into()))).await.unwrap();
    let same = call_with("ok", |options| options.queue = Some("default".into()));
    let _worker = t.worker_of("one", &["default"], 1).await;
    t.workflow.run(same).await.unwrap();
    settle().await;
    assert_eq!(t.status(&other).await, TaskStatus::Pending);
    let _other = t.worker_of("two", &["other"], 1).await;
    t.wait(&other).await;
    assert_eq!(t.stub.seen().last().unwrap().worker, "two");
}

#[tokio::test(start_paused = true)]
async fn slots_bound_what_runs_and_the_librarys_own_tasks_have_theirs() {
    let t = Test::new();
    let _worker = t.worker(3).await;
    let ids = t.workflow.run_many_no_wait((0..10).map(|_| call("gate")).collect()).await.unwrap();
    t.stub.delivered(3).await;
    settle().await;
    assert_eq!((t.stub.seen().len(), t.waiting("default")), (3, 7));
    let own = call_with("ok", |options| options.queue = Some("mageflow".into()));
    assert!(t.workflow.run(own).await.unwrap().is_completed());
    t.stub.gate.add_permits(10);
    for id in &ids {
        t.wait(id).await;
    }
    assert_eq!(t.stub.most.load(SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn every_slot_is_woken_for_a_burst() {
    let t = Test::new();
    let (_a, _b) = (t.worker(4).await, t.worker(4).await);
    settle().await;
    for _ in 0..8 {
        t.send("gate").await;
    }
    t.stub.delivered(8).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_task_notes_can_be_read() {
    let t = Test::with(EmbeddedConfig::default().max_log_lines(2));
    let _worker = t.worker(1).await;
    let id = t.workflow.run(call("note")).await.unwrap().task_id;
    assert_eq!(t.engine.logs(&id), ["two", "three"]);
    assert_eq!(t.engine.progress(&id), Some((0.5, "half".into())));
    assert!(t.engine.logs(&TaskId::new()).is_empty() && t.engine.progress(&TaskId::new()).is_none());
}

#[test]
fn engines_need_no_runtime_and_share_nothing() {
    let (one, two) = (EmbeddedEngine::new(), EmbeddedEngine::new());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let id = one.workflow(Arc::default()).run_no_wait(call("ok")).await.unwrap();
        assert!(one.clone().workflow(Arc::default()).result(&id).await.unwrap().is_pending());
        assert!(is_unknown(two.workflow(Arc::default()).result(&id).await));
    });
    assert!(one.native_client().is::<EmbeddedEngine>());
}

#[test]
fn each_framework_task_has_its_options() {
    let tasks = EmbeddedEngine::new().create_framework_tasks();
    assert_eq!(tasks.iter().map(|task| task.name).collect::<Vec<_>>(), FRAMEWORK_TASKS);
    let options: Vec<_> = tasks.iter().map(|task| (task.options.retries, task.options.timeout.unwrap())).collect();
    assert_eq!(options, [(3, S(300)), (3, S(300)), (5, S(60)), (5, S(300)), (4, S(300))]);
}

/// Many threads send, cancel and run; workers come and go. Everything ends, nothing runs twice at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_under_load() {
    let t = Arc::new(Test::with(EmbeddedConfig::default().max_queued(50)));
    let _worker = t.worker(4).await;
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..8 {
        let t = t.clone();
        senders.spawn(async move {
            for number in 0..500 {
                let task = ["ok", "back:0", "retry:0", "ok"][number % 4];
                let limit = (number % 3 == 0).then_some(2);
                let invocation = call_with(task, |options| options.concurrency = limit);
                let id = t.workflow.run_no_wait(invocation).await.unwrap();
                if (number + sender) % 7 == 0 {
                    t.workflow.cancel(&id).await.unwrap();
                }
                assert!(t.wait(&id).await.is_ended());
            }
        });
    }
    for _ in 0..20 {
        let brief = t.worker(3).await;
        tokio::task::yield_now().await;
        brief.shutdown.now.cancel();
        brief.handle.await.unwrap().unwrap();
    }
    while let Some(ended) = senders.join_next().await {
        ended.unwrap();
    }
    assert_eq!(t.waiting("default"), 0);
}
