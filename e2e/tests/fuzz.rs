//! The fuzz targets as a property test: the inputs of their corpora, mutations of these, and random
//! bytes.

use e2e::fuzz::TARGETS;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::fs;
use std::path::Path;

/// One mutation of an input.
#[derive(Debug, Clone)]
enum Edit {
    Set(usize, u8),
    Remove(usize, usize),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    // Bytes that parsers treat specially are more likely.
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(b"0123456789-/:,*~.\"{}[]?&=% \n".to_vec())
    ];
    let edit = prop_oneof![
        (any::<usize>(), byte.clone()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (any::<usize>(), 0_usize..8).prop_map(|(at, n)| Edit::Remove(at, n)),
        (any::<usize>(), vec(byte, 0..8)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<usize>(), 0_usize..40).prop_map(|(at, n)| Edit::Repeat(at, n)),
    ];
    vec(edit, 0..6)
}

fn edited(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let len = bytes.len();
        let place = |at: usize| if len == 0 { 0 } else { at % len };
        match edit {
            Edit::Set(at, byte) if len > 0 => bytes[place(*at)] = *byte,
            Edit::Set(..) => {}
            Edit::Remove(at, n) => drop(bytes.drain(place(*at)..len.min(place(*at) + n))),
            Edit::Insert(at, more) => {
                drop(bytes.splice(place(*at)..place(*at), more.iter().copied()));
            }
            Edit::Repeat(at, n) => {
                let part = bytes[place(*at)..len.min(place(*at) + n)].to_vec();
                bytes.extend(part);
            }
        }
    }
    bytes
}

#[test]
fn no_input_breaks_a_parser() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let files = fs::read_dir(corpora.join(name)).expect("a corpus");
        let mut corpus: Vec<Vec<u8>> = files
            .map(|file| fs::read(file.expect("a file").path()).expect("bytes"))
            .collect();
        corpus.sort_unstable();
        // The unchanged corpus first, so that bugs the fuzzers found stay fixed.
        corpus.iter().for_each(|bytes| target(bytes));
        let inputs = prop_oneof![
            8 => (prop::sample::select(corpus), edits()).prop_map(|(bytes, edits)| edited(bytes, &edits)),
            1 => vec(any::<u8>(), 0..200),
        ];
        let mut runner = TestRunner::new(Config {
            cases: 400,
            ..Config::default()
        });
        let result = runner.run(&inputs, |bytes| {
            target(&bytes);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
