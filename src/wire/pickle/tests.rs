use super::*;
use crate::wire::{error::Limits, python::Python};

/// A whole result, as a Python worker wrote it.
pub(crate) const CAPTURED: &[u8] = b"\x80\x04\x95U\0\0\0\0\0\0\0}\x94(\x8c\x06is_err\x94\x89\x8c\x03log\x94N\x8c\x0creturn_value\x94K\x04\x8c\x0eexecution_time\x94G\0\0\0\0\0\0\0\0\x8c\x06labels\x94}\x94\x8c\x05error\x94Nu.";

fn read(bytes: &[u8]) -> Result<String, PickleError> {
    Pickled::read(bytes, &Limits::default())?.to_json()
}

#[test]
fn reads_a_captured_result() {
    assert_eq!(CAPTURED.len(), 96);
    assert_eq!(
        read(CAPTURED).unwrap(),
        r#"{"is_err":false,"log":null,"return_value":4,"execution_time":0.0,"labels":{},"error":null}"#
    );
}

#[test]
fn writes_what_it_reads() {
    for json in [
        "null",
        "[]",
        "{}",
        r#"{"a":[1,-1,255,256,65535,65536,-2147483648,2147483648,9223372036854775807,18446744073709551615],"b":{}}"#,
        r#"["é😀","\u0000\"\\",true,false,null,0.1,-0.0,1e300,[[]],{"k":{"":[{}]}}]"#,
        "-9223372036854775808",
        "-9223372036854775809",
        "340282366920938463463374607431768211456",
        "-340282366920938463463374607431768211456",
        "[128,-128,-129,32768,-32769]",
    ] {
        assert_eq!(read(&write(json).unwrap()).unwrap(), json);
    }
    assert_eq!(read(&write(" { \"a\" : [ 1 , \"\\u00e9\" ] } ").unwrap()).unwrap(), r#"{"a":[1,"é"]}"#);
    let long = format!("\"{}\"", "x".repeat(300));
    assert_eq!(read(&write(&long).unwrap()).unwrap(), long);
    let huge = format!("-{}", "9".repeat(MAX_DIGITS));
    assert_eq!(read(&write(&huge).unwrap()).unwrap(), huge);
    assert_eq!(write(&format!("{huge}9")), Err(PickleError::HugeNumber));
    assert_eq!(write(r#""\ud800""#), Err(PickleError::NotText));
    for broken in ["", "[", "[1", "[1 2]", "{\"a\"}", "{1:2}", "x", "\"", "1 2", "-", "1.2.3"] {
        assert!(write(broken).is_err(), "{broken}");
    }
}

#[test]
fn reads_what_old_protocols_say_in_lines() {
    let cases: [(&[u8], &str); 10] = [
        (b"I01\n.", "true"),
        (b"I-5\n.", "-5"),
        (b"L18446744073709551616L\n.", "18446744073709551616"),
        (b"F1.5\n.", "1.5"),
        (b"Va\\u00e9\\U0001f600\n.", r#""aé😀""#),
        (b"S'a\\n\\'\\xc3\\xa9'\n.", r#""a\n'é""#),
        (b"(lp0\nI1\naI2\na.", "[1,2]"),
        (b"(dp0\nVa\np1\nI1\nsVb\nNs.", r#"{"a":1,"b":null}"#),
        (b"(I1\nI2\nt.", "[1,2]"),
        (b"}(K\x01K\x02NG\x3f\xf8\0\0\0\0\0\0G\x3f\xf8\0\0\0\0\0\0Nu.", r#"{"1":2,"null":1.5,"1.5":null}"#),
    ];
    for (bytes, json) in cases {
        assert_eq!(read(bytes).as_deref(), Ok(json), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn classes_are_named_and_never_looked_up() {
    let class = |name: &str| Err(PickleError::Class { name: name.into() });
    assert_eq!(read(b"cos\nsystem\n(S'id'\ntR."), class("os.system"));
    assert_eq!(read(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R."), class("os.system"));
    assert_eq!(read(b"(S'id'\nios\nsystem\n."), class("os.system"));
    assert_eq!(read(b"c__builtin__\neval\n."), class("__builtin__.eval"));
    assert_eq!(read(b"\x80\x02\x82\x01."), Err(PickleError::Outside { what: "a registered class" }));
    assert_eq!(read(b"Pid\n."), Err(PickleError::Outside { what: "a persistent object" }));
    assert_eq!(read(b"\x80\x05\x97."), Err(PickleError::Outside { what: "a buffer" }));
    for object in [&b"Nb."[..], b"NR.", b"(o.", b"NN\x81.", b"NNN\x92."] {
        assert!(matches!(read(object), Err(PickleError::Malformed { .. })));
    }
    let Err(PickleError::Class { name }) = read(&[b"c\x1b[31m\n".as_slice(), &[b'x'; 1000], b"\n."].concat()) else {
        panic!("a class is not data");
    };
    assert!(name.len() < 200 && !name.contains('\x1b'), "{name}");
}

#[test]
fn broken_ones_are_errors() {
    for bytes in [
        &b""[..],
        b".",
        b"N",
        b"a.",
        b"]a.",
        b"}s.",
        b"}Ns.",
        b"}(Nu.",
        b"e.",
        b"(",
        b"K",
        b"h\0.",
        b"\x8c\xffab.",
        b"0.",
        b"(0.",
        b"N(a.",
        b"\x85.",
        b"2.",
        b"\x94.",
        b"\x80\x09N.",
        b"I\n.",
        b"Ix\n.",
        b"V\\ud800\n.",
        b"S'x\n.",
        b"\x8c\x01\xff.",
        b"\x8b\xff\xff\xff\xff.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"r\xff\xff\xff\xff.",
        b"Nr\xff\xff\xff\xff.",
        b"\xff.",
        b"}(]Nu.",
        b"C\x01\xff.",
        b"N\x90.",
        b"1.",
        b"gx\n.",
    ] {
        assert!(read(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn shared_parts_cannot_blow_up() {
    // A list of ten times the list before it, and so on: 10^20 values in 500 bytes.
    let mut laughs = b"\x80\x04]\x94".to_vec();
    for level in 0..20_u8 {
        laughs.extend_from_slice(b"](");
        for _ in 0..10 {
            laughs.extend_from_slice(&[b'h', level]);
        }
        laughs.extend_from_slice(b"e\x94");
    }
    laughs.push(b'.');
    let limits = Limits::with_bytes(1 << 20);
    let pickled = Pickled::read(&laughs, &limits).unwrap();
    assert_eq!(pickled.to_json(), Err(PickleError::TooLarge { limit: 1 << 20 }));
}

#[test]
fn a_list_that_contains_itself_is_too_deep() {
    assert_eq!(read(b"\x80\x04]\x94h\0a."), Err(PickleError::TooDeep { limit: Limits::DEPTH }));
    assert_eq!(read(b"\x80\x04}\x94\x8c\x01ah\0s."), Err(PickleError::TooDeep { limit: Limits::DEPTH }));
}

#[test]
fn limits_hold_before_memory_is_spent() {
    let limits = Limits { values: 1000, bytes: 1 << 20, ..Limits::default() };
    let many = |byte: u8| [vec![byte; 2000], vec![b'.']].concat();
    for byte in [b']', b'N', b'('] {
        let error = Pickled::read(&many(byte), &limits).err().unwrap();
        assert_eq!(error, PickleError::TooManyValues { limit: 1000 });
    }
    let copies = [b"N".to_vec(), vec![b'2'; 2000]].concat();
    assert_eq!(Pickled::read(&copies, &limits).err(), Some(PickleError::TooManyValues { limit: 1000 }));
    let nested = [vec![b']'; 500], vec![b'a'; 499], vec![b'.']].concat();
    assert_eq!(Pickled::read(&nested, &limits).unwrap().to_json(), Err(PickleError::TooDeep { limit: Limits::DEPTH }));
    assert!(matches!(Pickled::read(&vec![b'N'; 2 << 20], &limits).err(), Some(PickleError::TooLarge { .. })));
}

#[test]
fn deep_causes_of_an_error_do_not_hide_the_rest() {
    let nested =
        [b"}(\x8c\x02okK\x01\x8c\x05error".to_vec(), vec![b']'; 500], vec![b'a'; 499], b"u.".to_vec()].concat();
    let pickled = Pickled::read(&nested, &Limits::default()).unwrap();
    let fields = pickled.fields("error").unwrap();
    assert_eq!(fields[0], ("ok".into(), "1".to_owned()));
    assert!(fields[1].1.contains("null"));
    assert!(pickled.fields("ok").is_err());
    assert_eq!(Pickled::read(b"].", &Limits::default()).unwrap().fields("x"), Err(PickleError::NotDictionary));
}

const SAMPLES: &str = r#"
shared = ["x" * 300, 2**70]
samples = [
    None, True, False, 0, -1, 255, 256, 65535, 65536, -2**31, 2**31, -2**31 - 1, 2**63 - 1, 2**63, 2**64 - 1, -2**63, -2**63 - 1,
    2**2000, -2**2000, 10**100, 0.1, -0.0, 1e300, 5e-324, "", "é😀\u2028", "a\"\\\n\x00", "x" * 70000, [], {}, [[]], {"a": {}},
    {"n": [1, {"b": None}]}, list(range(2500)), {str(i): i for i in range(2500)}, [shared, shared], ["again"] * 5,
]
"#;

#[test]
fn python_and_this_agree_in_both_directions() {
    let Some(python) = Python::find() else { return };
    // Each line: the protocol, the pickle in hexadecimal, the JSON.
    let dumped = python.run(
        &format!(
            "{SAMPLES}\nimport pickle, json\nfor p in range(6):\n for s in samples:\n  print(pickle.dumps(s, p).hex(), json.dumps(s))"
        ),
        "",
    );
    let mut request = String::new();
    let mut count = 0;
    for line in dumped.lines() {
        let (pickle, json) = line.split_once(' ').unwrap();
        let ours = read(&unhex(pickle)).unwrap();
        // Both are read by Python, whose integers have no bounds.
        request.push_str(&format!("{}\t{ours}\t{json}\n", hex(&write(json).unwrap())));
        count += 1;
    }
    let answer = python.run(
        "import sys, pickle, json\nn = 0\nfor line in sys.stdin:\n p, ours, json_ = line.rstrip('\\n').split('\\t')\n want = json.loads(json_)\n assert repr(json.loads(ours)) == repr(want), json_[:80]\n assert repr(pickle.loads(bytes.fromhex(p))) == repr(want), json_[:80]\n n += 1\nprint(n)",
        &request,
    );
    assert_eq!(answer.trim(), count.to_string());
    assert!(count >= 200, "{count}");
}

#[test]
fn python_objects_of_all_sorts_are_refused_or_read_as_json_would() {
    let Some(python) = Python::find() else { return };
    let script = "import pickle, datetime, collections, decimal\nfor s in [(1, (2,), (1, 2, 3, 4), ()), {3}, frozenset([3]), b'hi', bytearray(b'hi'), {1: 2, None: 3, True: 4}, float('nan'), datetime.datetime.now(), collections.OrderedDict(), decimal.Decimal(1), ValueError('x'), len, b'\\xff', '\\ud800', {(1, 2): 3}]:\n print(pickle.dumps(s, 5).hex())";
    let got: Vec<_> = python.run(script, "").lines().map(|line| read(&unhex(line))).collect();
    let data: Vec<_> = got[..7].iter().map(|json| json.as_deref().unwrap()).collect();
    assert_eq!(data, ["[1,[2],[1,2,3,4],[]]", "[3]", "[3]", "\"hi\"", "\"hi\"", "{\"1\":4,\"null\":3}", "null"]);
    let class = |name: &str| Err(PickleError::Class { name: name.into() });
    assert_eq!(got[7], class("datetime.datetime"));
    assert_eq!(got[8], class("collections.OrderedDict"));
    assert_eq!(got[9], class("decimal.Decimal"));
    assert_eq!(got[10], class("builtins.ValueError"));
    assert_eq!(got[11], class("builtins.len"));
    assert_eq!(got[12], Err(PickleError::NotText));
    assert_eq!(got[13], Err(PickleError::NotText));
    assert_eq!(got[14], Err(PickleError::Key));
}

#[test]
fn what_is_written_is_read() {
    let json = r#"{"a":[1,2.5,"x"]}"#;
    assert_eq!(read(&super::write(json).unwrap()).unwrap(), json);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
