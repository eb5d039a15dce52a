//! What a network does for real guests: addresses, names, a way to each other and out, and ports that
//! lead to them.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use racknest_e2e::guests::{log_in, pings, two_guests};
use racknest_e2e::wait::{self, LONG, SOON};
use racknest_e2e::{Conversation, Lab};

const NETWORK: &str = "VM Network";

/// How long a guest may take over one command.
const COMMAND: Duration = Duration::from_secs(30);

/// An address of this machine at which it is its own outside: guests are never led to 127.0.0.1.
fn outside() -> Ipv4Addr {
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("any port");
    // Nothing is sent: the system only says by which address it would be.
    probe.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).expect("this machine is in a network");
    match probe.local_addr().expect("it has one").ip() {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is no address of IPv4"),
    }
}

/// Has a guest ask for its address at once, until the lease is there.
fn take_lease(lab: &Lab, vm: &str) -> (Conversation, String) {
    let mut shell = log_in(lab, vm);
    wait::until(&format!("{vm} has its lease"), LONG, || {
        shell.say("udhcpc -n -q -t 1 -i eth0 -s /sbin/racknest-lease; echo as''ked\n");
        shell.hear("asked", COMMAND);
        says(&mut shell, "ip route | grep -q 'default via 10.1.0.1'")
    });
    let leases = lab.say("network leases").stdout();
    let own = leases.lines().find(|line| line.split_whitespace().last() == Some(vm));
    let own = own.unwrap_or_else(|| panic!("{vm} has no lease:\n{leases}"));
    let address = own.split_whitespace().find(|word| word.starts_with("10.1.0."));
    (shell, address.expect("an address of the subnet").to_owned())
}

/// Whether a command of a guest succeeds.
fn says(shell: &mut Conversation, command: &str) -> bool {
    // The shell repeats the command, so what is waited for must not stand in it.
    shell.say(&format!("{command} && echo it''is || echo it''isnot\n"));
    shell.hear_one_of(&["itisnot", "itis\r"], COMMAND).1 == 1
}

#[test]
fn guests_have_addresses_names_a_way_out_and_ports_that_lead_to_them() {
    let lab = two_guests();
    let words = ["network", "edit", NETWORK, "--subnet", "10.1.0.0/24", "--nat", "true"];
    lab.racknest(&words).done();
    let (_far, address) = take_lease(&lab, "vm02");
    let (mut shell, own) = take_lease(&lab, "vm01");
    assert_ne!(own, address);
    assert!(says(&mut shell, &format!("ip address | grep -q {own}/24")), "vm01 took {own}");
    assert!(pings(&mut shell, "10.1.0.1"), "the gateway does not answer");
    assert!(pings(&mut shell, "vm02.lab"), "a name leads to the guest of the other host");
    assert!(pings(&mut shell, "vm02"), "so does the name without its domain");

    // The outside is this machine, at another address than 127.0.0.1.
    let server = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("any port");
    let (at, port) = (outside(), server.local_addr().expect("it is bound").port());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = server.accept().expect("the guest connects");
            let mut request = [0; 512];
            assert!(stream.read(&mut request).expect("the guest asks") > 0);
            let page = "HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\noutside\n";
            stream.write_all(page.as_bytes()).expect("the guest listens");
        });
        let fetch = format!("wget -q -O - http://{at}:{port}/ | grep -q outside");
        assert!(says(&mut shell, &fetch), "the guest does not reach {at}:{port}");
    });

    let door = free_port();
    lab.say(&format!("network forward vm02 80 --listen 127.0.0.1:{door}")).done();
    wait::until("the port leads to the guest", SOON, || {
        page_at(door).is_some_and(|page| page.contains(&address))
    });
    let forwards = lab.say("network forwards").stdout();
    assert!(forwards.contains("vm02") && forwards.contains(&address), "{forwards}");

    // It leads there also when the guest runs elsewhere.
    let (here, there) = (lab.rest().vm("vm02").host.name, lab.rest().vm("vm01").host.name);
    assert_ne!(here, there, "the two guests are on two hosts");
    lab.racknest(&["vm", "move", "vm02", "--host", &there]).done();
    wait::until("the port leads to the host to which the guest has moved", SOON, || {
        page_at(door).is_some_and(|page| page.contains(&address))
    });
    lab.racknest(&["network", "edit", NETWORK, "--nat", "false"]).done();
    let fetch = format!("wget -q -T 5 -O - http://{at}:{port}/");
    wait::until("there is no way out any more", SOON, || !says(&mut shell, &fetch));
}

/// A port on which nobody listens at the moment.
fn free_port() -> u16 {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("any port");
    taken.local_addr().expect("it is bound").port()
}

/// What a web server behind a port of this machine says, if there is one.
fn page_at(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(COMMAND)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}

#[test]
fn a_fenced_copy_of_a_guest_runs_beside_it_with_the_same_address() {
    let lab = two_guests();
    lab.racknest(&["network", "edit", NETWORK, "--subnet", "10.1.0.0/24"]).done();
    let (mut shell, address) = take_lease(&lab, "vm01");
    lab.racknest(&["vm", "clone-stack", "vm01", "--suffix=-test"]).refused(&["vm01", "snapshot"]);
    lab.racknest(&["vm", "snapshot", "create", "vm01", "before"]).done();
    lab.racknest(&["vm", "clone-stack", "vm01", "--suffix=-test", "--power-on"]).done();
    let leases = lab.say("network leases *-test").stdout();
    assert!(leases.contains(&address) && leases.contains("vm01-test"), "{leases}");
    let mut copy = log_in(&lab, "vm01-test");
    wait::until("the copy has the address of the original", LONG, || {
        says(&mut copy, &format!("ip address | grep -q {address}/24"))
    });
    assert!(pings(&mut copy, "10.1.0.1"), "its gateway does not answer");
    let (_, other) = take_lease(&lab, "vm02");
    assert!(pings(&mut shell, &other), "the original reaches its network");
    assert!(!pings(&mut copy, &other), "the copy reaches it too");
}
