//! What a run is given: every shape of task, every source of input.

use super::*;
use crate::args;
use serde_json::{Value, json as value};

fn fields(names: &[&str], return_field: Option<&str>) -> CallShape {
    CallShape::Message {
        parameter: "photo".into(),
        fields: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        return_field: return_field.map(str::to_owned),
    }
}

fn names(names: &[&str]) -> CallShape {
    CallShape::Parameters { names: names.iter().map(|name| (*name).to_owned()).collect(), return_field: None }
}

fn names_returning(of: &[&str], field: &str) -> CallShape {
    let CallShape::Parameters { names, .. } = names(of) else { unreachable!() };
    CallShape::Parameters { names, return_field: Some(field.into()) }
}

fn message(arguments: Arguments) -> Source {
    Source::Message(arguments)
}

fn previous(result: Value) -> Source {
    Source::Previous(result.into())
}

fn failed(message: Arguments) -> Source {
    Source::Failure { message, failure: Arc::new(failure()) }
}

/// What the failure looks like to whoever is given it.
fn error() -> Value {
    serde_json::to_value(failure()).unwrap()
}

/// The positional and named arguments that come out.
fn resolved(shape: &CallShape, own: Arguments, source: Source, inherited: Option<Value>) -> (Value, Value) {
    let input = Input { source, inherited: inherited.map(Json::from) };
    let arguments = resolve(shape, &own, &input).unwrap();
    let part = |json: Option<&Json>, none: Value| json.map_or(none, Json::to_value);
    (part(arguments.args(), value!([])), part(arguments.kwargs(), value!({})))
}

fn named(shape: &CallShape, own: Arguments, source: Source, inherited: Option<Value>) -> Value {
    let (args, kwargs) = resolved(shape, own, source, inherited);
    assert_eq!(args, value!([]));
    kwargs
}

#[test]
fn a_message_alone_is_passed_on_as_it_is() {
    for shape in [fields(&["a"], None), names(&["a", "b"]), CallShape::default()] {
        assert_eq!(resolved(&shape, args![], message(args![1, b = 2]), None), (value!([1]), value!({"b": 2})));
    }
}

#[test]
fn layers_rise_from_the_message_over_containers_to_its_own_and_merge_deeply() {
    let shape = fields(&["deep", "a", "b", "c"], None);
    let source = message(args![deep = value!({"x": 1, "y": 1, "z": 1}), a = 1, b = 1, c = 1]);
    let inherited = value!({"deep": {"y": 2, "z": 2}, "b": 2, "c": 2});
    let own = args![deep = value!({"z": 3}), c = 3];
    let expected = value!({"deep": {"x": 1, "y": 2, "z": 3}, "a": 1, "b": 2, "c": 3});
    assert_eq!(named(&shape, own, source, Some(inherited)), expected);
}

#[test]
fn inner_containers_are_stronger_than_outer_ones() {
    let outer = Input { source: message(args![]), inherited: Some(json(r#"{"a":{"x":1,"y":1},"b":1}"#)) };
    let passed = outer.passed_on(&args![a = value!({"y": 2}), c = 2]).unwrap();
    assert_eq!(passed.to_value(), value!({"a": {"x": 1, "y": 2}, "b": 1, "c": 2}));
    let bare = Input { source: message(args![]), inherited: None };
    assert_eq!(bare.passed_on(&args![]), None);
    assert_eq!(bare.passed_on(&args![a = 1]), Some(json(r#"{"a":1}"#)));
    assert_eq!(outer.passed_on(&args![]), outer.inherited);
}

#[test]
fn merging_replaces_whatever_is_not_two_objects() {
    for (base, over, expected) in [
        (value!({"a": {"b": 1}}), value!({"a": [1]}), value!({"a": [1]})),
        (value!({"a": [1, 2]}), value!({"a": [3]}), value!({"a": [3]})),
        (value!({"a": 1}), value!({"a": {"b": 1}}), value!({"a": {"b": 1}})),
        (value!({"a": {"b": 1}}), value!({"a": null}), value!({"a": null})),
        (value!(1), value!({}), value!({})),
    ] {
        let mut merged = base;
        merge(&mut merged, over);
        assert_eq!(merged, expected);
    }
}

#[test]
fn a_message_struct_signed_as_one_value_is_stronger_than_what_it_is_started_with() {
    let shape = fields(&["url", "size", "deep"], None);
    let signed = args![value!({"url": "signed", "deep": {"x": 1, "y": 1}}), deep = value!({"y": 2})];
    let started = message(args![url = "started", size = 2]);
    let expected = value!({"url": "signed", "size": 2, "deep": {"x": 1, "y": 2}});
    assert_eq!(named(&shape, signed, started, None), expected);
    let started = message(args![value!({"url": "started", "size": 1}), size = 2]);
    let expected = value!({"url": "signed", "size": 2});
    assert_eq!(named(&shape, args![url = "signed"], started, None), expected);
    // What is no struct cannot be merged.
    assert_eq!(resolved(&shape, args![7], message(args![url = "u"]), None), (value!([7]), value!({})));
    assert_eq!(resolved(&shape, args![], message(args![7]), Some(value!({"a": 1}))), (value!([7]), value!({})));
}

#[test]
fn a_previous_result_becomes_the_message_or_goes_into_its_field() {
    let plain = fields(&["url"], None);
    assert_eq!(named(&plain, args![], previous(value!({"url": "u"})), None), value!({"url": "u"}));
    let own = args![size = 2];
    assert_eq!(named(&plain, own, previous(value!({"url": "u", "size": 1})), None), value!({"url": "u", "size": 2}));
    let marked = fields(&["url", "thumb"], Some("thumb"));
    assert_eq!(named(&marked, args![url = "u"], previous(value!([1])), None), value!({"url": "u", "thumb": [1]}));
    let by_name = fields(&["url", "mageflow_results"], None);
    let expected = value!({"url": "u", "mageflow_results": 5});
    assert_eq!(named(&by_name, args![url = "u"], previous(value!(5)), None), expected);
    assert_eq!(resolved(&plain, args![], previous(value!([1, 2])), None), (value!([[1, 2]]), value!({})));
    assert_eq!(named(&plain, args![], previous(value!(null)), None), value!({}));
    // Its whole message was signed, so there is no room for a result that is no struct.
    assert_eq!(named(&plain, args![url = "u"], previous(value!(5)), None), value!({"url": "u"}));
}

#[test]
fn a_message_task_gets_all_that_containers_hand_down() {
    let shape = fields(&["url"], None);
    let inherited = Some(value!({"tenant": "t"}));
    assert_eq!(named(&shape, args![], message(args![url = "u"]), inherited), value!({"url": "u", "tenant": "t"}));
}

#[test]
fn parameters_get_of_their_containers_only_what_they_have_a_name_for() {
    let shape = names(&["a", "b"]);
    let inherited = Some(value!({"b": 2, "tenant": "t"}));
    assert_eq!(named(&shape, args![], message(args![1]), inherited), value!({"a": 1, "b": 2}));
    let inherited = Some(value!({"tenant": "t"}));
    assert_eq!(resolved(&shape, args![], message(args![1, 2]), inherited), (value!([1, 2]), value!({})));
}

#[test]
fn parameters_bound_by_position_or_by_name_are_laid_over_the_message() {
    let shape = names(&["a", "b", "c"]);
    assert_eq!(named(&shape, args![c = 9], message(args![1, 2, 3]), None), value!({"a": 1, "b": 2, "c": 9}));
    assert_eq!(named(&shape, args![9], message(args![1, b = 2]), None), value!({"a": 9, "b": 2}));
    assert_eq!(named(&shape, args![9, a = 8], message(args![b = 2]), None), value!({"a": 8, "b": 2}));
    // Too many of either are left for the binding, which names the task.
    assert_eq!(resolved(&shape, args![a = 1], message(args![1, 2, 3, 4]), None).0, value!([1, 2, 3, 4]));
    assert_eq!(resolved(&shape, args![1, 2, 3, 4], message(args![5]), None).0, value!([1, 2, 3, 4]));
}

#[test]
fn a_previous_result_goes_into_the_marked_parameter_else_by_name_else_the_first_free_one() {
    let result = || previous(value!(5));
    assert_eq!(named(&names(&["a", "b"]), args![], result(), None), value!({"a": 5}));
    assert_eq!(named(&names(&["a", "b"]), args![a = 1], result(), None), value!({"a": 1, "b": 5}));
    assert_eq!(named(&names(&["a", "b"]), args![], result(), Some(value!({"a": 1}))), value!({"a": 1, "b": 5}));
    assert_eq!(named(&names(&["a", "b"]), args![1, 2], result(), None), value!({"a": 1, "b": 2}), "none is free");
    assert_eq!(named(&names(&["a", "mageflow_results"]), args![], result(), None), value!({"mageflow_results": 5}));
    assert_eq!(named(&names_returning(&["a", "b"], "b"), args![], result(), None), value!({"b": 5}));
    assert_eq!(named(&names(&[]), args![], result(), None), value!({}));
    assert_eq!(named(&names(&["a"]), args![], previous(value!(null)), None), value!({"a": null}));
}

#[test]
fn an_error_callback_that_takes_a_message_gets_the_fields_and_the_error() {
    let shape = fields(&["url", "error"], None);
    let expected = value!({"url": "u", "error": error()});
    assert_eq!(named(&shape, args![], failed(args![url = "u"]), None), expected);
    assert_eq!(named(&shape, args![], failed(args![value!({"url": "u"})]), None), expected);
    let own = args![url = "own"];
    assert_eq!(named(&shape, own, failed(args![url = "u"]), None), value!({"url": "own", "error": error()}));
}

#[test]
fn an_error_callback_whose_message_is_the_error_gets_it_alone() {
    for parameter in ["error", "failure"] {
        let shape = CallShape::Message { parameter: parameter.into(), fields: None, return_field: None };
        assert_eq!(resolved(&shape, args![], failed(args![url = "u"]), None), (value!([error()]), value!({})));
    }
}

#[test]
fn an_error_callback_with_parameters_gets_message_and_error() {
    let both = value!({"message": {"url": "u"}, "error": error()});
    assert_eq!(named(&names(&["message", "error"]), args![], failed(args![url = "u"]), None), both);
    // Names that fit are bound one by one; others are not for it.
    let fitting = value!({"a": 1, "error": error()});
    assert_eq!(named(&names(&["a", "error"]), args![], failed(args![a = 1, b = 2]), None), fitting);
    let positional = value!({"x": 1, "y": 2, "error": error()});
    assert_eq!(named(&names(&["x", "y", "error"]), args![], failed(args![1, 2]), None), positional);
    // Without a parameter of that name the error goes into the first free one behind the message.
    let behind = value!({"x": 1, "why": error()});
    assert_eq!(named(&names(&["x", "why"]), args![], failed(args![1]), None), behind);
    assert_eq!(named(&names(&["only"]), args![], failed(args![1]), None), value!({"only": error()}));
    assert_eq!(named(&names(&["only"]), args![], failed(args![url = "u"]), None), value!({"only": error()}));
    assert_eq!(named(&names(&["error"]), args![], failed(args![]), None), value!({"error": error()}));
    let own = value!({"message": {"url": "u"}, "error": error(), "tag": 1});
    assert_eq!(named(&names(&["tag", "message", "error"]), args![tag = 1], failed(args![url = "u"]), None), own);
}

#[test]
fn the_error_of_an_error_callback_is_not_the_one_that_its_message_speaks_of() {
    // What failed was an error callback itself, or was told of an end.
    let shape = names(&["url", "error"]);
    assert_eq!(
        named(&shape, args![], failed(args![url = "u", error = "older"]), None),
        value!({"url": "u", "error": error()})
    );
    let whole = value!({"url": {"status": "failed", "error": "older"}, "error": error()});
    assert_eq!(named(&shape, args![], failed(args![status = "failed", error = "older"]), None), whole);
    let own = value!({"url": "u", "error": "own"});
    assert_eq!(named(&shape, args![error = "own"], failed(args![url = "u", error = "older"]), None), own);
}

#[test]
fn an_unknown_task_is_given_everything() {
    let shape = CallShape::default();
    let own = || args![a = 2];
    let inherited = || Some(value!({"t": 1}));
    let all = (value!([1]), value!({"a": 2, "b": 1, "t": 1}));
    assert_eq!(resolved(&shape, own(), message(args![1, a = 1, b = 1]), inherited()), all);
    assert_eq!(resolved(&shape, args![9], message(args![1, b = 1]), None), (value!([9]), value!({"b": 1})));
    assert_eq!(resolved(&shape, args![9], previous(value!(5)), None), (value!([5, 9]), value!({})));
    let marked = CallShape::Unknown { return_field: Some("r".into()) };
    assert_eq!(resolved(&marked, own(), previous(value!(5)), None), (value!([]), value!({"a": 2, "r": 5})));
    let told = (value!([1]), value!({"b": 1, "error": error()}));
    assert_eq!(resolved(&shape, args![], failed(args![1, b = 1]), None), told);
}

#[test]
fn stored_arguments_that_are_broken_are_reported() {
    let input = Input { source: message(args![]), inherited: Some(json("[1]")) };
    assert!(resolve(&CallShape::default(), &args![], &input).is_err());
}

#[test]
fn an_error_callback_is_shown_the_message_of_what_failed() {
    let shown = |source| Input { source, inherited: None }.message();
    assert_eq!(shown(message(args![1])), args![1]);
    assert_eq!(shown(failed(args![a = 1])), args![a = 1]);
    assert_eq!(shown(previous(value!({"a": 1}))), args![a = 1]);
    assert_eq!(shown(previous(value!(5))), args![5]);
    assert_eq!(shown(previous(value!(null))), args![]);
}
