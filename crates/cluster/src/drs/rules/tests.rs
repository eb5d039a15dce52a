//! Rules in use: a script of rules, and what they say.

use std::string::ToString;
use std::vec;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn vm(raw: u64) -> VmId {
    VmId::from_raw(raw)
}

fn host(raw: u64) -> HostId {
    HostId::from_raw(raw)
}

fn hosts(count: u64) -> BTreeSet<HostId> {
    (1..=count).map(host).collect()
}

/// `must NAME together|apart 1 2 3`, `should NAME on|off|after GROUP GROUP`, `vms NAME 1 2`,
/// `hosts NAME 1 2`.
fn read(script: &str) -> (Vec<Rule>, Vec<Group>) {
    let (mut rules, mut groups) = (vec![], vec![]);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words = line.split(' ').collect::<Vec<_>>();
        let numbers = |from: usize| words[from..].iter().map(|word| word.parse::<u64>().unwrap());
        let name = words[1].into();
        if words[0] == "vms" {
            groups.push(Group { name, members: GroupMembers::Vms(numbers(2).map(vm).collect()) });
            continue;
        }
        if words[0] == "hosts" {
            let members = GroupMembers::Hosts(numbers(2).map(host).collect());
            groups.push(Group { name, members });
            continue;
        }
        let pair = || (String::from(words[3]), String::from(words[4]));
        let kind = match words[2] {
            "together" => RuleKind::KeepTogether { vms: numbers(3).map(vm).collect() },
            "apart" => RuleKind::KeepApart { vms: numbers(3).map(vm).collect() },
            "on" => RuleKind::RunOn { vm_group: pair().0, host_group: pair().1 },
            "off" => RuleKind::NotRunOn { vm_group: pair().0, host_group: pair().1 },
            "after" => RuleKind::StartAfter { vm_group: pair().0, depends_on: pair().1 },
            other => panic!("no rule is called {other}"),
        };
        rules.push(Rule { name, is_enabled: true, is_mandatory: words[0] == "must", kind });
    }
    (rules, groups)
}

fn check_conflicts(host_count: u64, script: &str, expected: &Expect) {
    let (rules, groups) = read(script);
    let rules = Rules::compile(&rules, &groups, &hosts(host_count));
    let lines = rules.conflicts().iter().map(|conflict| conflict.to_string() + "\n");
    expected.assert_eq(&lines.collect::<String>());
}

#[test]
fn rules_that_cannot_hold_are_named() {
    check_conflicts(
        2,
        "
        vms db 1 2
        vms web 3 4
        hosts all 1 2
        hosts left 1
        hosts right 2
        hosts gone 9
        must lonely apart 5 5
        must three apart 5 6 7
        must on-left on db left
        must on-right on db right
        must on-gone on web gone
        must no-group on web nowhere
        must mixed on web db
        must off-all off web all
        must db-apart apart 1 2
        must web-apart apart 3 4
        must web-off off web left
        ",
        &expect![[r#"
            rule 'lonely' needs at least two VMs
            rule 'three' cannot hold: it takes 3 hosts, there are 2
            rule 'on-right' with 'on-left' leaves no host for vm-1
            rule 'on-gone' leaves no host for vm-3
            rule 'no-group': there is no group 'nowhere'
            rule 'mixed': group 'db' holds the wrong kind of members
            rule 'off-all' leaves no host for vm-3
            rule 'db-apart' cannot hold: it takes 2 hosts, there are 1
            rule 'web-off' cannot hold because of rule 'web-apart': it takes 2 hosts, there are 1
        "#]],
    );
}

#[test]
fn contradictions_are_found_through_common_members() {
    check_conflicts(
        4,
        "
        must a together 1 2
        must b together 2 3
        must c apart 1 3
        must d apart 1 2
        should e apart 2 3
        must f apart 7 8
        must g together 8 9
        must h together 9 7
        ",
        &expect![[r#"
            rule 'c' contradicts rule 'a' about vm-1 and vm-3
            rule 'd' contradicts rule 'a' about vm-1 and vm-2
            rule 'e' contradicts rule 'b' about vm-2 and vm-3
            rule 'h' contradicts rule 'f' about vm-7 and vm-8
        "#]],
    );
}

#[test]
fn a_circle_of_starts_is_found() {
    check_conflicts(
        1,
        "
        vms db 1
        vms app 2 3
        vms web 4
        must one after app db
        must two after web app
        must three after db web
        must self after db db
        ",
        &expect![[r#"
            rule 'three' makes a circle of starts: vm-1 after vm-4 after vm-3 after vm-1
            rule 'self' makes a circle of starts: vm-1 after vm-1
        "#]],
    );
}

#[test]
fn a_placement_is_answered_with_the_rule_that_is_against_it() {
    let (rules, groups) = read(
        "
        vms db 1 2
        hosts fast 1 2
        hosts old 4
        must db-apart apart 1 2
        must on-fast on db fast
        should with-db together 1 3
        should not-old off db old
        ",
    );
    let rules = Rules::compile(&rules, &groups, &hosts(4));
    let placed = |of: VmId| (of == vm(1)).then_some(host(1));
    let mut answers = String::new();
    for (of, to) in [(2, 1), (2, 2), (2, 4), (3, 1), (3, 2), (9, 4)] {
        let answer = match rules.allows(vm(of), host(to), &placed) {
            Ok(()) => "yes".into(),
            Err(broken) if broken.is_mandatory => std::format!("must not: {broken}"),
            Err(broken) => std::format!("should not: {broken}"),
        };
        answers += &std::format!("vm-{of} on host-{to}: {answer}\n");
    }
    expect![[r#"
        vm-2 on host-1: must not: rule 'db-apart' keeps it apart from vm-1
        vm-2 on host-2: yes
        vm-2 on host-4: must not: rule 'on-fast' wants it on other hosts
        vm-3 on host-1: yes
        vm-3 on host-2: should not: rule 'with-db' keeps it with vm-1, which is on host-1
        vm-9 on host-4: yes
    "#]]
    .assert_eq(&answers);
    assert_eq!(rules.permits(vm(3), host(2), &placed), Ok(()));
    assert_eq!(rules.only_hosts(vm(1)), Some(&hosts(2)));
}

#[test]
fn mandatory_affinities_with_a_common_member_are_one_bundle() {
    let (rules, groups) = read(
        "
        must a together 1 2
        must b together 3 4
        must c together 2 3
        should d together 4 5
        ",
    );
    let rules = Rules::compile(&rules, &groups, &hosts(2));
    assert_eq!(rules.bundle(vm(4)), [vm(1), vm(2), vm(3), vm(4)]);
    assert!(rules.bundle(vm(5)).is_empty());
}

#[test]
fn a_rule_that_is_not_enabled_says_nothing() {
    let (mut rules, groups) = read("must a apart 1 2");
    rules[0].is_enabled = false;
    let rules = Rules::compile(&rules, &groups, &hosts(1));
    assert!(rules.is_empty() && rules.conflicts().is_empty());
}

proptest! {
    /// Whether VMs that are kept apart on given hosts can be placed is answered as by trying all.
    #[test]
    fn the_matching_is_that_of_brute_force(sets in prop::collection::vec(1_u32..16, 1..5)) {
        let mut script = String::new();
        let mut apart = String::from("must apart apart");
        for (at, bits) in sets.iter().enumerate() {
            script += &std::format!("vms v{at} {at}\nhosts h{at}");
            for bit in (0..4).filter(|bit| bits & (1 << bit) != 0) {
                script += &std::format!(" {}", bit + 1);
            }
            script += &std::format!("\nmust on{at} on v{at} h{at}\n");
            apart += &std::format!(" {at}");
        }
        let (rules, groups) = read(&(script + &apart));
        let compiled = Rules::compile(&rules, &groups, &hosts(4));
        let fits = sets.len() < 2 || brute(&sets, 0);
        let found = compiled.conflicts().iter().all(|conflict| conflict.rule != "apart");
        prop_assert_eq!(found || sets.len() < 2, fits);
    }
}

fn brute(sets: &[u32], used: u32) -> bool {
    let Some((first, rest)) = sets.split_first() else {
        return true;
    };
    (0..4).map(|bit| 1 << bit).any(|bit| first & bit & !used != 0 && brute(rest, used | bit))
}
