// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov show` says who ran a place, and what they ran before it.

use serde_json::Value;

use super::lines::Built;
use super::options::THREADS;

fn schema() -> jsonschema::Validator {
    let schema = include_str!("../../../../docs/show.schema.json");
    jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap()
}

fn threads() -> Built {
    let build = "cc gcc -g -O0 -D_GNU_SOURCE -pthread p.c -o p";
    Built::new(&[("p.c", THREADS)], build, "")
}

/// The line of the program with this text.
fn line(text: &str) -> usize {
    1 + THREADS
        .lines()
        .position(|line| line.contains(text))
        .unwrap()
}

#[test]
fn who_ran_a_line_and_how_they_came_there() {
    let built = threads();
    let show = |place: &str, options: &str| -> Value {
        let json = built.rkcov(&format!("show {place} t.rkcov --format json {options}"));
        let json = serde_json::from_str(&json).unwrap();
        let errors: Vec<_> = schema().iter_errors(&json).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
        json
    };
    let names = |place: &Value, of: &str| -> Vec<String> {
        let steps = place[of].as_array().unwrap().iter();
        steps
            .map(|step| step["function"].as_str().unwrap().to_owned())
            .collect()
    };

    // Both threads ran the function, each after another one.
    let answer = show("shared", "");
    let [place] = &answer["places"].as_array().unwrap()[..] else {
        panic!("{answer}");
    };
    assert_eq!(place["state"], "covered");
    assert_eq!(place["count"], 2);
    let ran = place["ran"].as_array().unwrap();
    let before: Vec<(bool, Vec<String>)> = ran
        .iter()
        .map(|who| (who.get("made_by").is_some(), names(who, "before")))
        .collect();
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let expected = [
        (false, owned(&["main"])),
        (true, owned(&["work", "worker"])),
    ];
    assert_eq!(before, expected, "{answer}");
    assert_eq!(ran[1]["made_by"], ran[0]["tid"]);

    // A line that one of them ran.
    let at = format!("p.c:{}", line("n += shared(n);"));
    let answer = show(&at, "");
    let place = &answer["places"][0];
    assert_eq!(place["function"]["name"], "worker");
    assert_eq!(place["text"], "n += shared(n);");
    assert_eq!(place["ran"].as_array().unwrap().len(), 1, "{answer}");

    // A line that nobody ran, and places that are none.
    let at = format!("p.c:{}", line("return 1;"));
    let answer = show(&at, "");
    assert_eq!(answer["places"][0]["state"], "uncovered", "{answer}");
    assert!(answer["places"][0]["ran"].as_array().unwrap().is_empty());
    for (place, why) in [
        ("nothing", "no function is called so"),
        (
            "p.c:2",
            "there is no code on this line; the next that has some is 3",
        ),
    ] {
        let output = built.command(&format!("show {place} t.rkcov")).output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(why), "{said}");
    }
}

#[test]
fn of_sources_with_one_name_the_path_says_which() {
    let one = |name: &str| format!("int {name}(int n)\n{{\n\treturn n;\n}}\n");
    let files = [
        ("a/part.c", &*one("a")),
        ("b/part.c", &one("b")),
        (
            "part.c",
            "int a(int n);\nint main(void)\n{\n\treturn a(0);\n}\n",
        ),
    ];
    let built = Built::new(&files, "cc gcc -g -O0 part.c a/part.c b/part.c -o p", "");
    let state = |place: &str| {
        let answer = built.rkcov(&format!("show {place} t.rkcov --format json"));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let places = answer["places"].as_array().unwrap();
        assert_eq!(places.len(), 1, "{answer}");
        places[0]["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state("a/part.c:3"), "covered");
    assert_eq!(state("b/part.c:3"), "uncovered");
    // The path from the folder of the run on, where another source has code on the line.
    assert_eq!(state("part.c:4"), "covered");
    let elsewhere = built.command("show art.c:3 t.rkcov").output().unwrap();
    let said = String::from_utf8(elsewhere.stderr).unwrap();
    assert!(said.contains("no source is art.c"), "{said}");
}

#[test]
fn a_name_that_several_sources_have_is_refused() {
    let one = |name: &str| format!("int {name}(int n)\n{{\n\treturn n;\n}}\n");
    let files = [
        ("a/part.c", &*one("a")),
        ("b/part.c", &one("b")),
        (
            "main.c",
            "int a(int n);\nint main(void)\n{\n\treturn a(0);\n}\n",
        ),
    ];
    let built = Built::new(&files, "cc gcc -g -O0 main.c a/part.c b/part.c -o p", "");
    let root = built.path();
    let root = root.display();
    for place in ["part.c:3", "part.c"] {
        let output = built.command(&format!("show {place} t.rkcov")).output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let why = format!(
            "several sources are called {place}: {root}/a/part.c, {root}/b/part.c; say more of the path"
        );
        assert!(!output.status.success() && said.contains(&why), "{said}");
    }
}

#[test]
fn answers_for_people() {
    let built = threads();
    let plain = |place: &str| {
        let text = built.rkcov(&format!("show {place} t.rkcov"));
        let text = text.replace(&*built.path().to_string_lossy(), "/built");
        // The numbers of threads and processes are others in each run.
        let number = regex::Regex::new(r"(thread |process |of |  )[0-9]{2,}").unwrap();
        number.replace_all(&text, "${1}N").into_owned()
    };
    let uncovered = format!("p.c:{}", line("return 1;"));
    insta::assert_snapshot!("show", [plain("shared"), plain(&uncovered)].join("\n"));
}
