//! From templates to records.

use super::*;
use crate::{
    args,
    error::{Error, Result},
    task::TaskOptions,
};

fn task(name: &str) -> Template {
    let task = TaskTemplate { task: name.into(), options: None, shape: None, return_field: None };
    Template::new(TemplateKind::Task(task))
}

fn chain(steps: impl Into<Vec<Template>>) -> Template {
    Template::new(TemplateKind::Chain(ChainTemplate { steps: steps.into() }))
}

fn swarm_with(items: impl Into<Vec<Template>>, change: impl FnOnce(&mut SwarmTemplate)) -> Template {
    let mut swarm = SwarmTemplate { items: items.into(), limits: SwarmLimits::default(), open: None };
    change(&mut swarm);
    Template::new(TemplateKind::Swarm(swarm))
}

fn swarm(items: impl Into<Vec<Template>>) -> Template {
    swarm_with(items, |_| ())
}

fn with(mut template: Template, change: impl FnOnce(&mut Template)) -> Template {
    change(&mut template);
    template
}

fn plan(template: &Template) -> Result<Planned> {
    planned(template, SignatureKey::root(GraphId::new()), None, Ttl::default(), now(), &|_| None)
}

fn fingerprint(template: &Template) -> u64 {
    plan(template).unwrap().root.plan.fingerprint
}

#[test]
fn everything_gets_its_key_its_parent_and_its_place() {
    let template = with(chain([task("a"), swarm([task("b"), task("c")])]), |chain| {
        chain.on_success = Some(Box::new(chain.clone()));
    });
    let Planned { below, root } = plan(&template).unwrap();
    let paths: Vec<_> = below.iter().map(|record| record.key.path()).collect();
    assert_eq!(paths, ["s/0", "s/1/0", "s/1/1", "s/1", "s", "0", "1/0", "1/1", "1"]);
    assert_eq!(root.key.path(), "");
    assert_eq!(root.plan.callbacks, Callbacks { on_success: true, ..Callbacks::default() });
    assert_eq!(root.state.counters.total, 2);
    for record in &below {
        match &record.plan.parent {
            None => assert_eq!(record.key.path(), "s", "only a callback has none"),
            Some(parent) => {
                assert_eq!(parent.key.child(parent.slot), record.key);
                assert_eq!(parent.in_swarm, parent.key.path().ends_with('1'));
            }
        }
    }
}

#[test]
fn a_swarm_inside_is_closed_and_one_of_its_own_is_open_unless_they_say_otherwise() {
    let closed = |template: &Template| {
        let Planned { below, root } = plan(template).unwrap();
        below.into_iter().chain([root]).filter(|record| matches!(record.plan.kind, Kind::Swarm(_))).fold(
            String::new(),
            |mut all, record| {
                all.push(if record.state.counters.closed { 'c' } else { 'o' });
                all
            },
        )
    };
    assert_eq!(closed(&swarm([task("a")])), "o");
    assert_eq!(closed(&swarm_with([], |swarm| swarm.open = Some(false))), "c");
    assert_eq!(closed(&swarm([swarm([task("a")])])), "co");
    assert_eq!(closed(&chain([swarm_with([], |swarm| swarm.open = Some(true)), task("a")])), "o");
    assert_eq!(closed(&with(task("a"), |task| task.on_error = Some(Box::new(swarm([]))))), "c");
    let of_many = SignatureKey::root_of_many(GraphId::new(), 1);
    let one_of_many = planned(&swarm([]), of_many, None, Ttl::default(), now(), &|_| None).unwrap();
    assert!(!one_of_many.root.state.counters.closed);
}

#[test]
fn a_chain_needs_two_steps_at_any_depth() {
    for steps in [vec![], vec![task("a")]] {
        let count = steps.len();
        assert!(matches!(plan(&chain(steps.clone())), Err(Error::ChainTooShort { steps }) if steps == count));
        assert!(matches!(plan(&swarm([chain(steps)])), Err(Error::ChainTooShort { .. })));
    }
}

#[test]
fn a_swarm_with_more_items_than_it_allows_is_refused() {
    let limited = |items: usize| swarm_with(vec![task("a"); items], |swarm| swarm.limits.max_task_allowed = Some(2));
    assert!(plan(&limited(2)).is_ok());
    assert!(matches!(plan(&limited(3)), Err(Error::TooManyTasks { limit: 2, .. })));
}

#[test]
fn broken_arguments_are_reported() {
    let broken = Arguments::none().arg(&std::collections::HashMap::from([((1, 2), 3)]));
    assert!(matches!(plan(&with(task("a"), |task| task.own = broken)), Err(Error::InvalidArguments { .. })));
}

#[test]
fn options_and_shape_are_its_own_else_those_that_are_known() {
    let known_options = Arc::new(TaskOptions { retries: 3, ..TaskOptions::default() });
    let known_shape = Arc::new(CallShape::Parameters { names: vec!["a".into()], return_field: None });
    let known =
        |name: &crate::TaskName| (name.as_str() == "known").then(|| (known_options.clone(), known_shape.clone()));
    let of = |template: &Template| {
        let key = SignatureKey::root(GraphId::new());
        let planned = planned(template, key, None, Ttl::default(), now(), &known).unwrap();
        match &planned.root.plan.kind {
            Kind::Task { options, shape, .. } => {
                (options.as_ref().map(|options| options.retries), CallShape::clone(shape))
            }
            kind => panic!("{}", kind.word()),
        }
    };
    assert_eq!(of(&task("known")), (Some(3), CallShape::clone(&known_shape)));
    assert_eq!(of(&task("other")), (None, CallShape::default()));
    let changed = with(task("known"), |template| {
        let TemplateKind::Task(task) = &mut template.kind else { return };
        task.options = Some(Arc::new(TaskOptions { retries: 9, ..TaskOptions::default() }));
        task.return_field = Some("r".into());
    });
    let shape = CallShape::Parameters { names: vec!["a".into()], return_field: Some("r".into()) };
    assert_eq!(of(&changed), (Some(9), shape));
}

#[test]
fn ttls_are_its_own_else_the_default() {
    let own = with(task("a"), |task| task.active_ttl = Some(Duration::from_secs(5)));
    let ttl = plan(&own).unwrap().root.plan.ttl;
    assert_eq!(ttl, Ttl { active: Duration::from_secs(5), ..Ttl::default() });
}

#[test]
fn equal_templates_have_equal_fingerprints_wherever_they_are_made() {
    let template = || {
        with(chain([task("a"), swarm([task("b"), with(task("c"), |task| task.own = args![1, x = 2])])]), |chain| {
            chain.on_error = Some(Box::new(task("d")));
        })
    };
    assert_eq!(fingerprint(&template()), fingerprint(&template()));
    let named = with(template(), |chain| chain.name = Some("for people".into()));
    assert_eq!(fingerprint(&named), fingerprint(&template()), "a name changes nothing of what runs");
}

#[test]
fn whatever_changes_what_runs_changes_the_fingerprint() {
    let (a, b, c) = (|| task("a"), || task("b"), || task("c"));
    let own = |arguments: Arguments| with(task("a"), |task| task.own = arguments);
    let callback = |set: fn(&mut Template, Box<Template>)| with(chain([a(), b()]), |chain| set(chain, Box::new(c())));
    let limited = |limit| swarm_with([a(), b()], |swarm| swarm.limits.max_concurrency = limit);
    let into_field = with(a(), |template| {
        let TemplateKind::Task(task) = &mut template.kind else { return };
        task.return_field = Some("r".into());
    });
    let different = [
        ("a", a()),
        ("b", b()),
        ("an argument", own(args![1])),
        ("another argument", own(args![2])),
        ("two arguments", own(args![1, 2])),
        ("a named argument", own(args![x = 1])),
        ("a return field", into_field),
        ("chain", chain([a(), b()])),
        ("chain in another order", chain([b(), a()])),
        ("longer chain", chain([a(), b(), c()])),
        ("chain with its last step first", chain([c(), a(), b()])),
        ("nested chain", chain([a(), chain([b(), c()])])),
        ("chain nested first", chain([chain([a(), b()]), c()])),
        ("chain with a success callback", callback(|chain, callback| chain.on_success = Some(callback))),
        ("chain with an error callback", callback(|chain, callback| chain.on_error = Some(callback))),
        ("chain with a last callback", callback(|chain, callback| chain.on_complete = Some(callback))),
        ("swarm", swarm([a(), b()])),
        ("swarm of one", limited(1)),
        ("open swarm inside", swarm([swarm_with([a(), b()], |swarm| swarm.open = Some(true))])),
        ("closed swarm inside", swarm([swarm([a(), b()])])),
    ];
    for (index, (name, template)) in different.iter().enumerate() {
        for (other_name, other) in &different[index + 1..] {
            assert_ne!(fingerprint(template), fingerprint(other), "{name} and {other_name}");
        }
    }
}
