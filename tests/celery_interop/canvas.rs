//! Chains, groups and chords with tasks of both languages in every position, called by a Python client; and what happens when
//! one of them fails.

use crate::{
    python::until,
    world::{World, fresh},
};
use chrono::DateTime;
use mageflow::{
    adapters::celery::{CeleryCall, CeleryCanvas, CeleryResult, CeleryValue},
    args,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Every way to give each `{}` of an expression one of the languages.
fn spoken(expression: &str) -> Vec<String> {
    let holes = expression.matches("{}").count();
    (0..1 << holes)
        .map(|choice| {
            let mut parts = expression.split("{}");
            let first = parts.next().unwrap().to_owned();
            parts
                .enumerate()
                .fold(first, |text, (hole, part)| text + if choice >> hole & 1 == 0 { "p" } else { "r" } + part)
        })
        .collect()
}

async fn hold(shapes: &[(&str, Value)]) {
    let Some(world) = World::new().await else { return };
    let cases = shapes.iter().flat_map(|(shape, want)| spoken(shape).into_iter().map(|case| (case, want.clone())));
    world.all_equal(&cases.collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chains() {
    hold(&[
        ("get(chain({}.add(1, 2), {}.mul(10)).delay())", json!(30)),
        ("get(chain({}.add(1, 2), {}.mul(10), {}.add(5)).delay())", json!(35)),
        ("get(chain({}.add(1, 2), {}.const().set(immutable=True), {}.add(5)).delay())", json!(12)),
        ("get(chain({}.add(1, 2), chain({}.mul(10), {}.add(1)), {}.add(5)).delay())", json!(36)),
        ("get(chain({}.add(1, 2), {}.mul(10)).apply_async(countdown=0.2))", json!(30)),
        ("get(chain({}.add(1, 2), {}.mul(10)).delay().parent)", json!(3)),
        ("get(({}.add() | {}.mul(10)).delay(1, 2))", json!(30)),
        ("get(chain({}.add(i, 1) for i in [1]).delay())", json!(2)),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups() {
    hold(&[
        ("get(group({}.add(1, 2), {}.mul(3, 4)).delay())", json!([3, 12])),
        ("get(group({}.add(1, 2), group({}.mul(3, 4), {}.const())).delay())", json!([3, 12, 7])),
        ("get(group({}.add(i, i) for i in range(10)).delay())", json!([0, 2, 4, 6, 8, 10, 12, 14, 16, 18])),
        ("get(group(chain({}.add(1, 2), {}.mul(2)), {}.const()).delay())", json!([6, 7])),
        ("get(chain({}.add(1, 2), group({}.mul(10), {}.add(10))).delay())", json!([30, 13])),
        ("get(group({}.add(1), {}.mul(2)).delay(5))", json!([6, 10])),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chords() {
    hold(&[
        ("get(chord([{}.add(1, 2), {}.mul(3, 4)], {}.xsum()).delay())", json!(15)),
        ("get(chord([{}.add(1, 2)], {}.xsum()).delay())", json!(3)),
        ("get(chord([chain({}.add(1, 2), {}.mul(2)), {}.const()], {}.xsum()).delay())", json!(13)),
        ("get(chord([{}.const(), {}.const()], chain({}.xsum(), {}.add(1))).delay())", json!(15)),
        ("get(chord([{}.const(), {}.const()], group({}.xsum(), {}.same())).delay())", json!([14, [7, 7]])),
        ("get(chord([chord([{}.const(), {}.const()], {}.xsum()), {}.const()], {}.xsum()).delay())", json!(21)),
        ("get(chain({}.add(1, 2), group({}.mul(10), {}.add(10)), {}.xsum()).delay())", json!(43)),
        ("get(chain({}.add(1, 2), group({}.mul(10), {}.add(10)), {}.xsum(), {}.add(1)).delay())", json!(44)),
        ("get(chain(group({}.add(1, 2), {}.const()), {}.xsum()).delay())", json!(10)),
        (
            "get(chain(group({}.add(1, 2), {}.const()), {}.xsum(), group({}.add(1), {}.add(2))).delay())",
            json!([11, 12]),
        ),
        (
            "get(chain(group({}.const(), {}.const()), group({}.xsum(), {}.same()), {}.same()).delay())",
            json!([14, [7, 7]]),
        ),
        (
            "get(chord([{}.add(i, i) for i in range(10)], {}.same()).delay())",
            json!([0, 2, 4, 6, 8, 10, 12, 14, 16, 18]),
        ),
        (
            "get(chain(chord([{}.const(), {}.const()], {}.xsum()), chord([{}.add(1), {}.add(2)], {}.xsum())).delay())",
            json!(31),
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_put_others_in_their_place() {
    hold(&[
        ("get({}.replaced(5).delay())", json!(6)),
        ("get({}.replaced_by_chain(5).delay())", json!(12)),
        ("get({}.replaced_by_chord(5).delay())", json!(13)),
        ("get(chain({}.replaced(5), {}.add(1)).delay())", json!(7)),
        ("get(chain({}.add(1, 2), {}.replaced_by_chain(), {}.add(1)).delay())", json!(9)),
        ("get(chain({}.replaced_by_chord(5), {}.add(1)).delay())", json!(14)),
        ("get(chord([{}.replaced(5), {}.const()], {}.xsum()).delay())", json!(13)),
        ("get(chord([{}.replaced_by_chain(5), {}.replaced_by_chord(5)], {}.xsum()).delay())", json!(25)),
        ("get(group({}.replaced(5), {}.replaced_by_chain(5)).delay())", json!([6, 12])),
        ("get(chord([{}.const()], {}.xsum() | {}.replaced()).delay())", json!(8)),
    ])
    .await;
    let Some(world) = World::new().await else { return };
    let script = r#"
        key = "replaced:" + args
        get(r.replaced(5).set(link=sig("rust.note", key)).delay())
        assert noted(key) == ["[6]"], noted(key)
        request = chain(r.replaced(5), sig("rust.request")).apply_async()
        got = get(request)
        assert got["parent_id"] == request.parent.id, got
        broken = raised(r.replaced_by_group(5).delay())
        assert broken["type"] == "RuntimeError" and "a task, a chain or a chord" in str(broken["args"]), broken
    "#;
    world.python(script, json!(fresh("replaced"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_results_keep_their_form() {
    hold(&[
        (
            "get(chord([chain({}.add(1, 2), group({}.mul(10), {}.add(10))), {}.const()], {}.same()).delay())",
            json!([[30, 13], 7]),
        ),
        (
            "get(chord([{}.const(), chord([{}.const(), {}.const()], group({}.xsum(), {}.same()))], {}.same()).delay())",
            json!([7, [14, [7, 7]]]),
        ),
        ("get(group({}.const(), chord([{}.const(), {}.const()], {}.xsum())).delay())", json!([7, 14])),
    ])
    .await;
}

/// Runs a snippet with `a` and `b` in all pairs of languages.
async fn in_pairs(script: &str) {
    let Some(world) = World::new().await else { return };
    let body: String = script.lines().map(|line| format!("        {line}\n")).collect();
    let script = format!(
        "for a in (p, r):\n    for b in (p, r):\n        key = f\"{{args}}:{{a.prefix}}:{{b.prefix}}\"\n{body}"
    );
    world.python(&script, json!(fresh("pairs"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_are_called() {
    in_pairs(
        r#"
def check(link):
    assert get(a.add(1, 2).apply_async(link=link)) == 3
check(b.note(key + "1"))
entries = noted(key + "1")
assert entries == ["[3]"], entries
check([b.note(key + "2"), b.note(key + "3")])
assert noted(key + "2") == ["[3]"] and noted(key + "3") == ["[3]"]
check(chain(b.add(10), a.note(key + "4")))
assert noted(key + "4") == ["[13]"]
check(chord([b.add(1), a.add(2)], b.note(key + "5")))
assert noted(key + "5") in (["[[4, 5]]"], ["[[4,5]]"]), noted(key + "5")
check(group(b.note(key + "6"), a.note(key + "6")))
assert sorted(noted(key + "6", 2)) == ["[3]", "[3]"]
result = chord([a.add(1, 2)], b.xsum()).apply_async(link=a.note(key + "7"))
assert get(result) == 3 and noted(key + "7") == ["[3]"]
"#,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn error_callbacks_are_called_with_the_id() {
    in_pairs(
        r#"
result = a.fail().apply_async(link_error=b.err_old())
assert raised(result)["type"] in ("OwnError", "KeyError")
assert noted("err:" + result.id) == [b.prefix]
result = chain(a.add(1, 2), b.fail(), a.add(3)).apply_async(link_error=a.err_old())
assert raised(result)["type"] in ("OwnError", "KeyError")
assert noted("err:" + result.parent.id) == [a.prefix]
several = a.fail().on_error(r.err_old()).on_error(p.err_old()).delay()
assert sorted(noted("err:" + several.id, 2)) == ["py", "rust"]
"#,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_reach_everybody_who_waits() {
    in_pairs(
        r#"
errors = ("OwnError", "KeyError")
result = chain(a.add(1, 2), b.fail(), a.add(3), b.add(4)).delay()
assert raised(result)["type"] in errors
assert raised(result.parent)["type"] in errors and get(result.parent.parent.parent) == 3
kind, args = stored(chord([a.fail(), b.const()], a.xsum()).delay())
assert kind == "ChordError" and "Dependency" in args[0] and "raised" in args[0], (kind, args)
got = stored(chord([b.const(), chain(b.const(), a.fail(), b.add(1))], b.xsum()).delay())
assert got[0] == "ChordError", got
got = stored(chord([a.fail(), b.const()], chain(b.xsum(), a.add(1))).delay())
assert got[0] == "ChordError", got
got = stored(chain(a.const(), group(b.fail(), a.add(1)), b.xsum(), a.add(1)).delay())
assert got[0] == "ChordError", got
got = stored(chord([a.const()], b.fail()).delay())
assert got[0] in errors, got
members = chord([a.fail(), b.const()], group(a.xsum(), b.same())).delay()
assert all(stored(member)[0] in errors + ("ChordError",) for member in members.results)
group_result = group(a.fail(), b.const()).delay()
assert stored(group_result.results[0])[0] in errors and get(group_result.results[1]) == 7
result = chord([a.fail(), b.const()], a.xsum().on_error(b.err_old())).delay()
assert stored(result)[0] == "ChordError"
assert noted("err:" + result.id) == [b.prefix]
"#,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_chord_and_saved_groups() {
    let Some(world) = World::new().await else { return };
    let script = r#"
        got = get(chord([(p if i % 20 == 0 else r).add(i, 1) for i in range(2000)], r.xsum()).delay(), 60)
        assert got == sum(range(2000)) + 2000, got
        result = group(r.add(i, i) for i in range(5)).delay()
        result.save()
        assert get(GroupResult.restore(result.id, app=app)) == [0, 2, 4, 6, 8]
        return result.id
    "#;
    let id = world.python(script, Value::Null).await;
    let canvas = CeleryCanvas::connect(world.app()).await.unwrap();
    let restored = canvas.restore(id.as_str().unwrap()).await.unwrap().unwrap();
    assert_eq!(canvas.wait(&restored).await.unwrap().as_str(), "[0,2,4,6,8]");
    assert_eq!(canvas.restore(&fresh("unknown")).await.unwrap(), None);
    let inner = CeleryCall::group([call("py", "const", args![]), call("rust", "const", args![])]);
    let sent = canvas.send(CeleryCall::chain([call("py", "const", args![]), inner.immutable()])).await.unwrap();
    canvas.save(&sent).await.unwrap();
    let CeleryResult::Group { id, .. } = sent else { panic!("no group") };
    let restored = world.python("return get(GroupResult.restore(args, app=app))", json!(id)).await;
    assert_eq!(restored, json!([7, 7]));
}

fn call(language: &str, task: &str, args: mageflow::Arguments) -> CeleryCall {
    CeleryCall::task(format!("{language}.{task}"), args)
}

/// The same shapes, called by a Rust client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_calls_every_shape() {
    let Some(world) = World::new().await else { return };
    let canvas = CeleryCanvas::connect(world.app()).await.unwrap();
    let mut count = 0;
    for a in ["py", "rust"] {
        for b in ["py", "rust"] {
            let add = |language, n: i64| call(language, "add", args![n]);
            let seven = |language| call(language, "const", args![]);
            let sum = |language| call(language, "xsum", args![]);
            let cases = [
                (call(a, "add", args![1, y = 2]), json!(3)),
                (CeleryCall::chain([call(a, "add", args![1, 2]), add(b, 10), add(a, 100)]), json!(113)),
                (CeleryCall::chain([call(a, "add", args![1, 2]), seven(b).immutable(), add(a, 1)]), json!(8)),
                (CeleryCall::group([seven(a), call(b, "add", args![1, 2])]), json!([7, 3])),
                (CeleryCall::group([seven(a), CeleryCall::group([seven(b), seven(a)])]), json!([7, 7, 7])),
                (CeleryCall::chord([seven(a), seven(b)], sum(a)), json!(14)),
                (CeleryCall::chord([seven(a), seven(b)], CeleryCall::chain([sum(b), add(a, 1)])), json!(15)),
                (CeleryCall::chord([seven(a), seven(b)], CeleryCall::group([sum(a), sum(b)])), json!([14, 14])),
                (CeleryCall::chord([CeleryCall::chain([seven(a), add(b, 1)]), seven(a)], sum(b)), json!(15)),
                (CeleryCall::chord([CeleryCall::chord([seven(a), seven(b)], sum(a)), seven(b)], sum(b)), json!(21)),
                (
                    CeleryCall::chain([seven(a), CeleryCall::group([add(a, 1), add(b, 2)]), sum(b), add(a, 1)]),
                    json!(18),
                ),
                (CeleryCall::chain([CeleryCall::group([seven(a), seven(b)]), sum(b)]), json!(14)),
                (CeleryCall::chain([seven(a), CeleryCall::group([add(a, 1), add(b, 2)])]), json!([8, 9])),
                (CeleryCall::chain([CeleryCall::chain([seven(b), add(a, 1)]), add(b, 1)]), json!(9)),
                (CeleryCall::chain([seven(a), add(b, 1).countdown(Duration::from_millis(100)).priority(9)]), json!(8)),
                (CeleryCall::chord(Vec::new(), call(a, "same", args![])), json!([])),
            ];
            count += cases.len();
            let runs = cases.into_iter().enumerate().map(|(number, (case, want))| {
                let canvas = canvas.clone();
                async move {
                    let got = tokio::time::timeout(Duration::from_secs(40), canvas.run(case)).await;
                    let got = got.unwrap_or_else(|_| panic!("case {number} of {a} and {b} does not end")).unwrap();
                    assert_eq!(got.to_value(), want, "case {number} of {a} and {b}");
                }
            });
            futures_util::future::join_all(runs).await;
            let failed = canvas.run(CeleryCall::chain([seven(a), call(b, "fail", args![]), add(a, 1)])).await;
            assert!(matches!(failed, Err(mageflow::Error::TaskFailed { .. })), "{failed:?}");
            let failed = canvas.run(CeleryCall::chord([seven(a), call(b, "fail", args![])], sum(a))).await.unwrap_err();
            assert!(failed.to_string().contains("Dependency"), "{failed}");
            let key = fresh("link");
            let linked = call(a, "add", args![1, 2]).link(call(b, "note", args![&*key]));
            let sent = canvas.send(linked).await.unwrap();
            assert_eq!(canvas.wait(&sent).await.unwrap().as_str(), "3");
            until("the callback is called", || world.ask::<i64>(redis::cmd("LLEN").arg(&key)) == 1).await;
        }
    }
    eprintln!("{count} cases hold");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_pythons_types_can_be_sent() {
    let Some(world) = World::new().await else { return };
    let canvas = CeleryCanvas::connect(world.app()).await.unwrap();
    let id = uuid::Uuid::from_u128(5);
    let typed = args![
        CeleryValue::decimal("1.50"),
        CeleryValue::uuid(id),
        CeleryValue::bytes(b"\xff\x00"),
        CeleryValue::datetime(DateTime::UNIX_EPOCH)
    ];
    let key = fresh("typed");
    let call = CeleryCall::task("py.note", typed.arg(&*key));
    canvas.run(call).await.unwrap();
    let left: Vec<String> = world.ask(redis::cmd("LRANGE").arg(&key).arg(0).arg(-1));
    let want = "[Decimal('1.50'), UUID('00000000-0000-0000-0000-000000000005'), b'\\xff\\x00', datetime.datetime(1970, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)]";
    assert_eq!(left, [want]);
}
