use mageflow::*;
use std::sync::Arc;
use std::time::Duration;

fn task(
    name: &str,
    names: &[&str],
    f: impl Fn(Vec<serde_json::Value>) -> Result<serde_json::Value, TaskError> + Send + Sync + Clone + 'static,
) -> RegisteredTask {
    let names: Vec<String> = names.iter().map(|s| s.to_string()).collect();
    let definition =
        Arc::new(TaskDefinition::new(name, CallShape::Parameters { names: names.clone(), return_field: None }));
    let n = definition.name.clone();
    RegisteredTask {
        definition,
        handler: Arc::new(move |_ctx, args| {
            let (f, names, n) = (f.clone(), names.clone(), n.clone());
            Box::pin(async move {
                let refs: Vec<&str> = names.iter().map(|s| s.as_str()).collect();
                let b = args.bind(&n, &refs)?;
                let v = (0..names.len()).map(|i| b.take(i)).collect::<Result<Vec<serde_json::Value>, _>>()?;
                f(v).map(Json::from)
            })
        }),
    }
}

#[tokio::test]
async fn smoke() {
    let mage = Mageflow::embedded()
        .register(task("add", &["a", "b"], |v| Ok((v[0].as_i64().unwrap() + v[1].as_i64().unwrap()).into())))
        .register(task("inc", &["x"], |v| Ok((v[0].as_i64().unwrap() + 1).into())))
        .register(task("fail", &["x"], |_| Err(TaskError::terminal("no"))))
        .register(task("note", &["error"], |v| {
            println!("ERR {}", v[0]);
            Ok(v[0].clone())
        }))
        .build()
        .await
        .unwrap();
    let worker = mage.worker("w").spawn().await.unwrap();
    let id = mage.submit("add", args![10, 5]).await.unwrap();
    assert_eq!(mage.wait(&id).await.unwrap().output::<i64>().unwrap(), 15);
    let chain = mage.chain([Signature::by_name("add"), Signature::by_name("inc"), Signature::by_name("inc")]);
    let r = chain.run_result(args![1, 2], Duration::from_secs(5)).await.unwrap();
    assert_eq!(r.output::<i64>().unwrap(), 5);
    let swarm = mage.swarm((0..100).map(|i| Signature::by_name("inc").kwargs(args![x = i])));
    let r = swarm.max_concurrency(7).run(args![]).await.unwrap();
    assert_eq!(r, (0..100).map(|i| Some(Json::from(serde_json::json!(i + 1)))).collect::<Vec<_>>());
    let nested = mage.chain((
        swarm_of(3),
        Signature::by_name("add").kwargs(args![b = 1]).untyped().on_error(Signature::by_name("note")),
    ));
    let r = nested.run_result(&serde_json::json!({"x": 1}), Duration::from_secs(5)).await.unwrap();
    println!("{r:?}");
    worker.shutdown().await.unwrap();
}
fn swarm_of(n: usize) -> Signature<Untyped, Json, TakesAny> {
    swarm((0..n).map(|_| chain([Signature::by_name("inc"), Signature::by_name("inc")]))).into_signature().untyped()
}
