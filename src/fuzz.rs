//! Mutated bytes for decoders of all sorts.
//!
//! `MAGEFLOW_FUZZ` says how many mutations each decoder is given; the default suits every run of the tests.

// Each adapter uses a part of it.
#![allow(dead_code)]

use serde_json::value::RawValue;
use std::{
    env,
    time::{Duration, Instant},
};

/// Far beyond what one input takes, even on a busy machine.
const SLOW: Duration = Duration::from_secs(5);

/// Bytes that mean something to one of the decoders.
const TELLING: &[u8] = b"{}[]\",:\\u0123456789-.eEtfnN()ldahjpqrbcioRKMJIGLFXTUVSCB _\n\x00\x01\x08\x0b\x0c\x10\x12\x1a\x22\x7f\x80\x81\x82\x84\x85\x87\x88\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98\xff";

fn count() -> usize {
    env::var("MAGEFLOW_FUZZ").map_or(20_000, |text| text.parse().expect("MAGEFLOW_FUZZ is a number"))
}

/// One to eight small damages, few more often than many.
fn mutate(random: &mut fastrand::Rng, seeds: &[Vec<u8>], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&seeds[random.usize(..seeds.len())]);
    let most = random.usize(1..=8);
    for _ in 0..random.usize(1..=most) {
        let at = random.usize(..=out.len());
        let telling = TELLING[random.usize(..TELLING.len())];
        match random.u8(..9) {
            0 if at < out.len() => out[at] ^= 1 << random.u8(..8),
            1 if at < out.len() => out[at] = random.u8(..),
            2 if at < out.len() => out[at] = telling,
            3 => out.insert(at, telling),
            4 => out.truncate(at),
            5 => drop(out.drain(at..(at + random.usize(..16)).min(out.len()))),
            6 => {
                let copied = out[at..(at + random.usize(..32)).min(out.len())].repeat(random.usize(1..=4));
                let to = random.usize(..=out.len());
                out.splice(to..to, copied);
            }
            7 => {
                let other = &seeds[random.usize(..seeds.len())];
                out.truncate(at);
                out.extend_from_slice(&other[random.usize(..=other.len())..]);
            }
            // Deep nesting and long runs.
            8 => drop(out.splice(at..at, std::iter::repeat_n(telling, random.usize(..300)))),
            _ => {}
        }
    }
}

/// Gives mutations of `seeds` to `decode`, which says whether it understood.
pub(crate) fn fuzz(name: &str, seeds: &[Vec<u8>], mut decode: impl FnMut(&[u8]) -> bool) {
    for seed in seeds {
        assert!(decode(seed), "{name}: a seed must be understood: {}", String::from_utf8_lossy(seed));
    }
    let mut random = fastrand::Rng::with_seed(name.bytes().map(u64::from).sum());
    let (mut input, mut understood, mut longest) = (Vec::new(), 0, Duration::ZERO);
    let started = Instant::now();
    for _ in 0..count() {
        mutate(&mut random, seeds, &mut input);
        let begun = Instant::now();
        understood += usize::from(decode(&input));
        longest = longest.max(begun.elapsed());
    }
    let took = started.elapsed();
    eprintln!("fuzz\t{name}\t{} mutations\t{took:?}\t{understood} understood\tlongest {longest:?}", count());
    assert!(longest < SLOW, "{name}: one input took {longest:?}");
    // If nothing gets past the first checks, nothing behind them is tried.
    assert!(understood * 50 > count(), "{name}: only {understood} were understood");
}

pub(crate) fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}
