//! The deployment file: what it says is what there is, and saying it twice does nothing twice.

use racknest_e2e::Lab;

const TWO_GROUPS: &str = r#"
name = "shop"
driver = "simulated"

[[hosts]]
name = "esx01"
count = 2

[[networks]]
name = "VM Network"

[[networks]]
name = "backend"
vlan = 20

[[vms]]
name = "web01"
count = 3

[[vms]]
name = "db01"
count = 2
power_on = false
"#;

/// A running box from this file; the file's path.
fn shop(text: &str) -> (Lab, String) {
    let lab = Lab::new();
    let path = write(&lab, text);
    lab.start(&[&path]).done();
    (lab, path)
}

fn write(lab: &Lab, text: &str) -> String {
    let path = lab.root().join("home/racknest.toml");
    fs_err::write(&path, text).expect("our own directory can be written");
    path.to_string_lossy().into_owned()
}

fn names(lab: &Lab, kind: &str) -> Vec<String> {
    let names = lab.say(&format!("{kind} list -o name")).stdout();
    let mut names: Vec<String> = names.lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn up_builds_what_the_file_describes() {
    let (lab, _) = shop(TWO_GROUPS);
    assert_eq!(names(&lab, "host"), ["esx01", "esx02"]);
    assert_eq!(names(&lab, "network"), ["VM Network", "backend"]);
    assert_eq!(names(&lab, "vm"), ["db01", "db02", "template1", "web01", "web02", "web03"]);
    let on = lab.say("vm list --power-state powered_on -o name").stdout();
    assert_eq!(on.lines().collect::<Vec<_>>(), ["web01", "web02", "web03"]);
}

#[test]
fn a_file_that_is_applied_already_leaves_nothing_to_do() {
    let (lab, path) = shop(TWO_GROUPS);
    let before = lab.inventory();
    for words in [["diff", &path], ["apply", &path], ["apply", &path]] {
        let outcome = lab.racknest(&words);
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(said.to_lowercase().contains("nothing to do"), "{outcome}");
        outcome.done();
    }
    assert_eq!(lab.inventory(), before);
}

#[test]
fn diff_shows_what_apply_then_does() {
    let (lab, path) = shop(TWO_GROUPS);
    write(
        &lab,
        &TWO_GROUPS.replace("count = 3", "count = 5").replace("\"backend\"", "\"storage\""),
    );
    let before = lab.inventory();
    let diff = lab.racknest(&["diff", &path]);
    let diff = format!("{}{}", diff.stdout, diff.stderr);
    for word in ["web04", "web05", "storage"] {
        assert!(diff.contains(word), "the difference does not speak of {word}: {diff}");
    }
    assert_eq!(lab.inventory(), before, "a difference changes nothing");
    lab.racknest(&["apply", &path]).done();
    assert!(names(&lab, "vm").contains(&"web05".to_owned()));
    assert_eq!(names(&lab, "network"), ["VM Network", "backend", "storage"]);
}

#[test]
fn only_prune_removes_what_the_file_no_longer_says() {
    let (lab, path) = shop(TWO_GROUPS);
    write(&lab, &TWO_GROUPS.replace("count = 3", "count = 1"));
    lab.racknest(&["apply", &path]).done();
    assert!(names(&lab, "vm").contains(&"web03".to_owned()), "without --prune nothing goes");
    lab.racknest(&["apply", &path, "--prune"]).done();
    assert_eq!(names(&lab, "vm"), ["db01", "db02", "template1", "web01"]);
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_line_before_anything_starts() {
    for (text, words) in [
        ("name = \"shop\"\nhostz = 3\n", ["racknest.toml:2", "hostz"]),
        ("[[hosts]]\nmemory = \"8 bananas\"\n", ["racknest.toml:2", "8 bananas"]),
        ("[[hosts]]\ncount = 0\n", ["racknest.toml:2", "zero"]),
        ("[[vms]]\ntemplate = \"ghost\"\n", ["racknest.toml", "ghost"]),
        ("name = \"shop\n", ["racknest.toml:1", "string"]),
    ] {
        let lab = Lab::new();
        let path = write(&lab, text);
        lab.start(&[&path]).refused(&words);
        assert!(lab.processes().is_empty(), "{text}: something was started");
        assert!(!lab.directory().exists(), "{text}: the box's directory was made");
    }
}
