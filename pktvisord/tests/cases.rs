//! Small inputs with known answers. The daemon once got each of them wrong.
//!
//! The variable `PKTVISOR_CASES` names a folder with the inputs and `cases.json`, a list of objects
//! with these fields. Without the variable the test is skipped.
//!
//! * `file`: name of the input.
//! * `args`: arguments; default `--summary`.
//! * `exit`: exit code; default 0.
//! * `expect`: paths in the JSON view, each with a value, a lowest and highest value, or null for a
//!   path that must be missing.
//! * `says`: words separated by `|`, one of which standard error must contain.
//! * `max_s`: time limit in seconds.

mod support;

use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use support::program::run;
use support::tool::skipped;

/// Factor for the time limit in a debug build that runs beside other tests.
const SLOWER: f64 = 20.0;

/// Returns the value at a path of keys. The key of an entry in a top list is its name, with
/// underscores for dots.
fn at<'a>(view: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(view, |value, key| match value {
        Value::Array(entries) => {
            let named = |entry: &&Value| {
                entry["name"].as_str().is_some_and(|name| name.replace('.', "_") == key)
            };
            entries.iter().find(named)?.get("estimate")
        }
        value => value.get(key),
    })
}

fn is_right(found: Option<&Value>, right: &Value) -> bool {
    match right {
        Value::Null => found.is_none(),
        Value::Array(range) => {
            let number = |value: &Value| value.as_f64().expect("a number");
            found.is_some_and(|found| {
                (number(&range[0])..=number(&range[1])).contains(&number(found))
            })
        }
        right if right == 0 => found.is_none_or(|found| found == right),
        right => found == Some(right),
    }
}

/// Returns the differences from the known answer of a case.
fn faults(folder: &Path, case: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut args: Vec<String> = match case["args"].as_array() {
        Some(args) => args.iter().map(text).collect(),
        None => vec!["--summary".to_owned()],
    };
    let file = text(&case["file"]);
    args.push(folder.join(&file).to_str().expect("a path in UTF-8").to_owned());
    let started = Instant::now();
    let done = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let took = started.elapsed().as_secs_f64();
    let mut faults = Vec::new();
    let code = case["exit"].as_i64().unwrap_or(0);
    if done.code.map(i64::from) != Some(code) {
        faults.push(format!("exit code {:?}, right is {code}: {}", done.code, done.stderr));
    }
    let views: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
    let view = views.as_object().and_then(|views| views.values().next());
    for (path, right) in case["expect"].as_object().into_iter().flatten() {
        let found = view.and_then(|view| at(view, path));
        if !is_right(found, right) {
            faults.push(format!("{path} is {found:?}, right is {right}"));
        }
    }
    if let Some(says) = case["says"].as_str() {
        let said = done.stderr.to_lowercase();
        if !says.split('|').any(|word| said.contains(&word.to_lowercase())) {
            faults.push(format!("standard error does not say {says}: {}", done.stderr));
        }
    }
    if let Some(most) = case["max_s"].as_f64().filter(|most| took > most * SLOWER) {
        faults.push(format!("took {took} s, at most {most} s in a release build"));
    }
    faults.into_iter().map(|fault| format!("{file} {}: {fault}", args.join(" "))).collect()
}

#[test]
fn gives_the_known_answer_to_each_case() {
    let Some(folder) = std::env::var_os("PKTVISOR_CASES") else {
        return skipped("PKTVISOR_CASES does not name a folder of inputs with right values");
    };
    let folder = Path::new(&folder);
    let cases = std::fs::read(folder.join("cases.json")).expect("PKTVISOR_CASES has cases.json");
    let cases: Vec<Value> = serde_json::from_slice(&cases).expect("a list in JSON");
    assert!(!cases.is_empty());
    let faults: Vec<String> = cases.iter().flat_map(|case| faults(folder, case)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
