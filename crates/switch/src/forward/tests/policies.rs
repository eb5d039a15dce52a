//! Policies of ports at a virtual switch: who may send, who gets it, and by which uplink.

use expect_test::expect;

use super::*;

#[test]
fn guests_of_a_nested_host_have_a_network_only_if_the_outer_switch_accepts_both() {
    // The nested host's card is h; its own guest has card n.
    for policy in ["", "promiscuous", "forged"] {
        let mut world = Script::default();
        for line in ["uplink up", &format!("guest nested h {policy}"), "guest web w"] {
            world.step(line.trim());
        }
        let mut out = Vec::new();
        let ports = &world.ports;
        let out_of = |switch: &mut Switch, out: &mut Vec<Egress>| {
            switch.forward(0, ports["nested"], &frame("n", "w", None), out)
        };
        let sent = out_of(&mut world.switch, &mut out);
        let answer = world.switch.forward(0, ports["web"], &frame("w", "n", None), &mut out);
        let comes_back = out.iter().any(|egress| egress.port == ports["nested"]);
        let works = matches!(sent, Verdict::Forwarded) && comes_back;
        assert!(!works, "{policy}: {sent:?} {answer:?}");
    }
    check(
        "
        uplink up
        guest nested h promiscuous forged
        guest web w
        nested: n > w
        web: w > n
        nested: n > x
        up: x > n
        ",
        expect![[r#"
            nested: n > w  ->  Forwarded [web:Keep]
            web: w > n  ->  Flooded [nested:Keep up:Keep]
            nested: n > x  ->  Flooded [up:Keep]
            up: x > n  ->  Flooded [nested:Keep]
            nested: frames_in: 2 bytes_in: 120 frames_out: 2 bytes_out: 120
            up: frames_in: 1 bytes_in: 60 frames_out: 2 bytes_out: 120
            web: frames_in: 1 bytes_in: 60 frames_out: 1 bytes_out: 60
        "#]],
    );
    check(
        "
        uplink up
        guest nested h learning forged
        guest web w
        web: w > n
        nested: n > w
        web: w > n
        up: x > n
        web: w > h
        ",
        expect![[r#"
            web: w > n  ->  Flooded [up:Keep]
            nested: n > w  ->  Forwarded [web:Keep]
            web: w > n  ->  Forwarded [nested:Keep]
            up: x > n  ->  Forwarded [nested:Keep]
            web: w > h  ->  Forwarded [nested:Keep]
            nested: frames_in: 1 bytes_in: 60 frames_out: 3 bytes_out: 180
            up: frames_in: 1 bytes_in: 60 frames_out: 1 bytes_out: 60
            web: frames_in: 3 bytes_in: 180 frames_out: 1 bytes_out: 60
        "#]],
    );
}

#[test]
fn a_guest_may_change_its_address_if_it_may_and_not_use_two() {
    check(
        "
        uplink up
        guest g a changes
        guest other b
        at 5000
        g: c > b
        g: a > b
        at 5500
        g: c > b
        other: b > a
        other: b > c
        at 7000
        g: d > b
        other: b > a
        other: b > d
        guest fixed f
        fixed: x > b
        ",
        expect![[r#"
            g: c > b  ->  Forwarded [other:Keep]
            g: a > b  ->  Forwarded [other:Keep]
            g: c > b  ->  Dropped(ForgedSource) []
            other: b > a  ->  Forwarded [g:Keep]
            other: b > c  ->  Flooded [up:Keep]
            g: d > b  ->  Forwarded [other:Keep]
            other: b > a  ->  Flooded [up:Keep]
            other: b > d  ->  Forwarded [g:Keep]
            fixed: x > b  ->  Dropped(ForgedSource) []
            fixed: frames_in: 1 bytes_in: 60 forged_source: 1
            g: frames_in: 4 bytes_in: 240 frames_out: 2 bytes_out: 120 forged_source: 1
            other: frames_in: 4 bytes_in: 240 frames_out: 3 bytes_out: 180
            up: frames_out: 2 bytes_out: 120
        "#]],
    );
}

#[test]
fn what_is_not_for_a_guest_it_does_not_get() {
    check(
        "
        uplink up
        guest g a
        guest h b
        guest spy s promiscuous
        up: x > a
        up: x > y
        g: a > b
        g: a > *
        g: a > +
        g: a > y
        trace g: a > y
        ",
        expect![[r#"
            up: x > a  ->  Forwarded [g:Keep spy:Keep]
            up: x > y  ->  Flooded [spy:Keep]
            g: a > b  ->  Forwarded [h:Keep spy:Keep]
            g: a > *  ->  Flooded [h:Keep spy:Keep up:Keep]
            g: a > +  ->  Flooded [h:Keep spy:Keep up:Keep]
            g: a > y  ->  Flooded [spy:Keep up:Keep]
            trace g: a > y  ->  Flooded not [h:NotPromiscuous]
            g: frames_in: 4 bytes_in: 240 frames_out: 1 bytes_out: 60
            h: frames_out: 3 bytes_out: 180
            spy: frames_out: 6 bytes_out: 360
            up: frames_in: 2 bytes_in: 120 frames_out: 3 bytes_out: 180
        "#]],
    );
}

#[test]
fn parts_of_a_private_vlan_reach_whom_they_may() {
    check(
        "
        uplink up
        guest router r private 100 promiscuous
        guest alone1 a private 100 isolated:101
        guest alone2 b private 100 isolated:101
        guest team1 c private 100 community:102
        guest team2 d private 100 community:102
        alone1: a > *
        alone1: a > b
        alone1: a > r
        team1: c > *
        team1: c > a
        router: r > *
        router: r > b
        up: x > * 101
        up: x > * 102
        up: x > * 100
        ",
        expect![[r#"
            alone1: a > *  ->  Flooded [router:Keep up:Push(VlanId(101))]
            alone1: a > b  ->  Dropped(NoReceiver) []
            alone1: a > r  ->  Forwarded [router:Keep]
            team1: c > *  ->  Flooded [router:Keep team2:Keep up:Push(VlanId(102))]
            team1: c > a  ->  Dropped(NoReceiver) []
            router: r > *  ->  Flooded [alone1:Keep alone2:Keep team1:Keep team2:Keep up:Push(VlanId(100))]
            router: r > b  ->  Forwarded [alone2:Keep]
            up: x > * 101  ->  Flooded [router:Strip]
            up: x > * 102  ->  Flooded [router:Strip team1:Strip team2:Strip]
            up: x > * 100  ->  Flooded [router:Strip alone1:Strip alone2:Strip team1:Strip team2:Strip]
            alone1: frames_in: 3 bytes_in: 180 frames_out: 2 bytes_out: 116 no_receiver: 1
            alone2: frames_out: 3 bytes_out: 176
            router: frames_in: 2 bytes_in: 120 frames_out: 6 bytes_out: 348
            team1: frames_in: 2 bytes_in: 120 frames_out: 3 bytes_out: 172 no_receiver: 1
            team2: frames_out: 4 bytes_out: 232
            up: frames_in: 3 bytes_in: 180 frames_out: 3 bytes_out: 192
        "#]],
    );
}

#[test]
fn guests_keep_to_their_uplink_and_move_when_it_fails() {
    check(
        "
        uplink u0
        uplink u1
        uplink u2
        guest g a team=port:u0,u1/u2
        guest h b team=port:u0,u1/u2
        g: a > x
        h: b > x
        u0: x > *
        u1: x > *
        u2: x > *
        u0: x > a
        u1: x > a
        down u1
        g: a > x
        h: b > x
        up u1
        g: a > x
        ",
        expect![[r#"
            g: a > x  ->  Flooded [u1:Keep]
            h: b > x  ->  Flooded [u0:Keep]
            u0: x > *  ->  Flooded [h:Keep]
            u1: x > *  ->  Flooded [g:Keep]
            u2: x > *  ->  Dropped(OtherUplink) []
            u0: x > a  ->  Dropped(OtherUplink) []
            u1: x > a  ->  Forwarded [g:Keep]
            g: a > x  ->  Flooded [u2:Keep]
            h: b > x  ->  Flooded [u0:Keep]
            g: a > x  ->  Flooded [u1:Keep]
            g: frames_in: 3 bytes_in: 180 frames_out: 2 bytes_out: 120
            h: frames_in: 2 bytes_in: 120 frames_out: 1 bytes_out: 60
            u0: frames_in: 2 bytes_in: 120 frames_out: 2 bytes_out: 120 other_uplink: 1
            u1: frames_in: 2 bytes_in: 120 frames_out: 2 bytes_out: 120
            u2: frames_in: 1 bytes_in: 60 frames_out: 1 bytes_out: 60 other_uplink: 1
        "#]],
    );
}

#[test]
fn without_failback_a_link_that_flaps_moves_its_guests_once() {
    check(
        "
        uplink u0
        uplink u1
        guest g a team=first:u0/u1!
        g: a > x
        down u0
        g: a > x
        up u0
        g: a > x
        down u1
        g: a > x
        ",
        expect![[r#"
            g: a > x  ->  Flooded [u0:Keep]
            g: a > x  ->  Flooded [u1:Keep]
            g: a > x  ->  Flooded [u1:Keep]
            g: a > x  ->  Flooded [u0:Keep]
            g: frames_in: 4 bytes_in: 240
            u0: frames_out: 2 bytes_out: 120
            u1: frames_out: 2 bytes_out: 120
        "#]],
    );
}

#[test]
fn a_frame_that_comes_back_is_no_sign_of_life_and_uplinks_make_no_loop() {
    check(
        "
        uplink u0
        uplink u1
        guest g a
        g: a > *
        u1: a > *
        u0: x > y
        u0: x > *
        u1: x > *
        ",
        expect![[r#"
            g: a > *  ->  Flooded [u0:Keep]
            u1: a > *  ->  Dropped(Loop) []
            u0: x > y  ->  Dropped(OtherUplink) []
            u0: x > *  ->  Flooded [g:Keep]
            u1: x > *  ->  Dropped(OtherUplink) []
            g: frames_in: 1 bytes_in: 60 frames_out: 1 bytes_out: 60
            u0: frames_in: 2 bytes_in: 120 frames_out: 1 bytes_out: 60 other_uplink: 1
            u1: frames_in: 2 bytes_in: 120 loop: 1 other_uplink: 1
        "#]],
    );
}

#[test]
fn whoever_watches_gets_a_copy_of_what_passes_dropped_or_not() {
    check(
        "
        uplink up
        guest g a access 10
        guest h b access 10
        tap watch
        mirror watch sent_by=g sent_to=g
        g: a > b
        h: b > a
        up: x > a 10
        g: x > b
        h: b > *
        h: b > x
        ",
        expect![[r#"
            g: a > b  ->  Forwarded [h:Keep watch:Keep]
            h: b > a  ->  Forwarded [g:Keep watch:Keep]
            up: x > a 10  ->  Forwarded [g:Strip watch:Strip]
            g: x > b  ->  Dropped(ForgedSource) [watch:Keep]
            h: b > *  ->  Flooded [g:Keep up:Push(VlanId(10)) watch:Keep]
            h: b > x  ->  Flooded [up:Push(VlanId(10))]
            g: frames_in: 2 bytes_in: 120 frames_out: 3 bytes_out: 176 forged_source: 1
            h: frames_in: 3 bytes_in: 180 frames_out: 1 bytes_out: 60
            up: frames_in: 1 bytes_in: 60 frames_out: 2 bytes_out: 128
            watch: frames_out: 5 bytes_out: 296
        "#]],
    );
}

#[test]
fn a_long_frame_a_closed_port_and_control_frames_are_named() {
    check(
        "
        uplink up
        guest g a mtu=40
        guest h b
        g: a > b
        h: b > a
        block h
        g: a > b
        h: b > a
        up: x > b
        ",
        expect![[r#"
            g: a > b  ->  Dropped(TooLong) []
            h: b > a  ->  Dropped(TooLong) []
            g: a > b  ->  Dropped(TooLong) []
            h: b > a  ->  Dropped(Blocked) []
            up: x > b  ->  Dropped(Blocked) []
            g: frames_in: 2 bytes_in: 120 too_long: 2
            h: frames_in: 1 bytes_in: 60 blocked: 1 too_long: 1
            up: frames_in: 1 bytes_in: 60 blocked: 1
        "#]],
    );
}

#[test]
fn a_loop_closes_the_port_behind_which_it_is_for_a_while() {
    let mut switch = Switch::default();
    let ports = [0, 1].map(|_| switch.add_port(PortMode::trunk()));
    let mut out = Vec::new();
    let hello = frame("a", "*", None);
    let mut turns = 0_u64..;
    let looped = turns.find(|turn| {
        let port = ports[usize::try_from(turn % 2).unwrap()];
        let verdict = switch.forward(*turn, port, &hello, &mut out);
        verdict == Verdict::Dropped(DropReason::Loop)
    });
    let turn = looped.expect("it is found");
    assert!(turn < 20, "{turn}");
    let port = ports[usize::try_from(turn % 2).unwrap()];
    assert!(switch.is_looped(turn, port));
    assert!(!switch.is_looped(turn + LOOP_PENALTY_MS, port));
}

#[test]
fn a_guest_that_floods_is_held_to_its_limits() {
    let mut switch = Switch::default();
    let card = |letter| PortRole::Guest(MacAddress::new(address(letter)));
    let mut config = PortConfig::new(card("a"), PortMode::Access(VlanId::UNTAGGED));
    config.storm.broadcast = Some(100);
    let noisy = switch.plug(0, config);
    let mut out = Vec::new();
    let mut limits = PortConfig::new(card("b"), PortMode::Access(VlanId::UNTAGGED));
    // 6,000 bytes a second are 100 of these frames.
    let shaping = crate::rate::Shaping { average: 6_000, peak: 60_000_000, burst: 600 };
    limits.shaping_in = Some(shaping);
    limits.shaping_out = Some(shaping);
    let slow = switch.plug(0, limits);
    let mut passed = [0; 3];
    for now_ms in 0..10_000 {
        for (place, (port, from, to)) in
            [(noisy, "a", "*"), (noisy, "a", "b"), (slow, "b", "a")].into_iter().enumerate()
        {
            switch.forward(now_ms, port, &frame(from, to, None), &mut out);
            passed[place] += out.len();
        }
    }
    let [broadcasts, to_slow, from_slow] = passed;
    assert!((900..=1_020).contains(&(broadcasts + to_slow)), "{passed:?}");
    assert!((990..=1_020).contains(&from_slow), "{passed:?}");
    let counters = switch.counters(noisy).unwrap();
    assert!(counters.dropped(DropReason::Storm) > 8_900);
    assert!(switch.counters(slow).unwrap().dropped(DropReason::ShapedIn) > 8_900);
    assert!(switch.counters(slow).unwrap().dropped(DropReason::ShapedOut) > 8_900);
}

#[test]
fn a_group_goes_to_those_who_asked_for_it_and_what_they_ask_to_routers() {
    let mut switch = Switch::default();
    switch.snoop(Some(Snooper::default()));
    let ports = [0, 1, 2].map(|_| switch.add_port(PortMode::trunk()));
    let [source, member, other] = ports;
    // IGMPv2, one to 239.1.2.3 and its report, checksums as RFC 1071 has them.
    let report = |kind: u8, group: [u8; 4], from: &str| {
        let mut igmp = [&[kind, 0, 0, 0][..], &group].concat();
        let words = igmp.chunks(2).map(|it| u32::from(it[0]) << 8 | u32::from(it[1]));
        let sum: u32 = words.sum();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        igmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet =
            [&[0x45, 0, 0, 28, 0, 0, 0, 0, 1, 2, 0, 0, 10, 0, 0, 1][..], &group].concat();
        let words = packet.chunks(2).map(|it| u32::from(it[0]) << 8 | u32::from(it[1]));
        let sum: u32 = words.sum();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let mac = [1, 0, 0x5e, group[1], group[2], group[3]];
        [&mac[..], &address(from), &[8, 0], &packet, &igmp].concat()
    };
    let mut out = Vec::new();
    let mut sent = |switch: &mut Switch, port, bytes: &[u8]| {
        switch.forward(0, port, bytes, &mut out);
        out.iter().map(|egress| egress.port).collect::<Vec<_>>()
    };
    let stream = frame("s", "+", None);
    assert_eq!(sent(&mut switch, source, &stream), [member, other], "nobody has asked");
    sent(&mut switch, member, &report(0x16, [239, 1, 2, 3], "m"));
    assert_eq!(sent(&mut switch, source, &stream), [member]);
    let mut broken = report(0x16, [239, 1, 2, 3], "o");
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(
        switch.forward(0, other, &broken, &mut Vec::new()),
        Verdict::Dropped(DropReason::Malformed)
    );
}

#[test]
fn a_port_is_known_by_each_of_its_vlans() {
    let vlan = |number| VlanId::new(number).unwrap();
    let mut switch = Switch::default();
    switch.divide([(vlan(11), vlan(10)), (vlan(12), vlan(10)), (vlan(21), vlan(20))]);
    let private = |part| PortMode::Private { primary: vlan(10), part };
    let allowed = [3, 5, 7].map(vlan).into_iter().collect();
    let mut vlans = |mode: PortMode| {
        let port = switch.add_port(mode);
        switch.vlans_of(port).take(4).map(VlanId::get).collect::<Vec<_>>()
    };
    assert_eq!(vlans(PortMode::Access(vlan(4))), [4]);
    assert_eq!(vlans(private(PrivatePart::Isolated(vlan(11)))), [11, 10]);
    assert_eq!(vlans(private(PrivatePart::Promiscuous)), [10, 11, 12]);
    assert_eq!(vlans(PortMode::Trunk { native: vlan(5), allowed }), [5, 3, 7]);
    assert_eq!(vlans(PortMode::trunk()), [0, 1, 2, 3]);
    assert_eq!(switch.vlans_of(PortId::from_number(99)).count(), 0);
}
