//! The box itself: what it keeps, what it survives, and how cables are pulled from outside.

use std::os::unix::fs::PermissionsExt;

use fs_err as fs;
use racknest_switch::offload::Offload;
use racknest_types::fault::FaultCode;
use racknest_underlay::{ConnectError, Control, Fabric, Underlay};
use tokio::io::AsyncReadExt;

use crate::world::{World, in_time, machine, nic, open, open_to, pass};

#[tokio::test]
async fn everything_open_is_there_again_after_a_restart_of_the_box() {
    let mut world = World::new().await;
    let (vcenter, esx01) = (world.connect("vcenter").await, world.connect("esx01").await);
    let mut listener = esx01.listen(902).await.unwrap();
    let (left, right) = (vcenter.datagram(1).await.unwrap(), esx01.datagram(2).await.unwrap());
    let (raw, far_raw) =
        (vcenter.ethernet(&nic(0)).await.unwrap(), esx01.ethernet(&nic(0)).await.unwrap());
    let (mut near, _far) = open(&vcenter, &mut listener, 902).await;

    world.stop().await;
    assert_eq!(in_time(near.read(&mut [0; 8])).await.unwrap(), 0, "streams end with the box");
    world.start().await;
    // The dialler may come first; to it the machine is off, or unknown, for a moment.
    in_time(async {
        while world.fabric().links().iter().filter(|link| link.is_machine_on).count() < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let opening = async {
        loop {
            if let Ok(near) = vcenter.dial(&machine("esx01"), 902).await {
                return near;
            }
        }
    };
    let mut near = in_time(opening).await;
    let (mut far, _) = in_time(listener.accept()).await;
    pass(&mut near, &mut far, "again").await;

    let mut buffer = [0; 64];
    let heard = async {
        loop {
            left.send_to(&machine("esx01"), 2, b"beat").await.unwrap();
            tokio::select! {
                biased;
                received = right.recv(&mut buffer) => return received.from,
                () = world.settle() => {}
            }
        }
    };
    assert_eq!(in_time(heard).await, machine("vcenter"));
    let heard = async {
        loop {
            raw.try_send(&Offload::NONE, [&[0xff; 6], &[], &[2; 54]]);
            tokio::select! {
                biased;
                size = far_raw.recv(&mut buffer) => return size,
                () = world.settle() => {}
            }
        }
    };
    assert_eq!(in_time(heard).await, (Offload::NONE, 60));
}

#[tokio::test]
async fn cut_cables_stay_cut_over_a_restart() {
    let mut world = World::new().await;
    let esx01 = world.connect("esx01").await;
    world.cut("esx01", &[0]).await;
    world.cut("esx01", &[0]).await;
    world.stop().await;
    world.start().await;
    in_time(async {
        while world.fabric().links().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!world.link("esx01", 0).is_up);
    assert!(world.link("esx01", 1).is_up);
    in_time(esx01.links().wait_for(|links| !links[&nic(0)])).await.unwrap();

    world.restore("esx01", &[0]).await;
    assert!(world.link("esx01", 0).is_up);
    in_time(esx01.links().wait_for(|links| links[&nic(0)])).await.unwrap();
}

#[tokio::test]
async fn cables_are_pulled_over_the_socket() {
    let world = World::new().await;
    let esx01 = world.connect("esx01").await;
    let control = Control::connect(&world.socket()).await.unwrap();
    control.cut(&machine("esx01"), &nic(1)).await.unwrap();
    let links = control.links().await.unwrap();
    assert_eq!(links.iter().map(|link| link.is_up).collect::<Vec<_>>(), [true, false]);
    control.restore(&machine("esx01"), &nic(1)).await.unwrap();
    assert!(world.link("esx01", 1).is_up);

    let unknown = control.cut(&machine("esx99"), &nic(0)).await.unwrap_err();
    assert_eq!(unknown.code, FaultCode::NotFound);
    assert_eq!(unknown.message, "machine esx99 does not exist");
    let unknown = control.cut(&machine("esx01"), &nic(7)).await.unwrap_err();
    assert_eq!(
        unknown.message,
        "NIC vmnic7 of esx01 (it has vmnic0, vmnic1, vmhba0) does not exist"
    );

    let busy = control.unplug(&machine("esx01")).await.unwrap_err();
    assert_eq!(busy.code, FaultCode::InvalidState);
    drop(esx01);
    in_time(async { while control.unplug(&machine("esx01")).await.is_err() {} }).await;
    assert_eq!(control.links().await.unwrap(), []);
}

#[tokio::test]
async fn a_change_that_cannot_be_saved_is_not_made() {
    let world = World::new().await;
    world.fabric().plug(&machine("esx01"), &[nic(0)]).await.unwrap();
    fs::create_dir(world.config().links_file).unwrap();
    let fault = world.fabric().cut(&machine("esx01"), &nic(0)).await.unwrap_err();
    assert_eq!(fault.code, FaultCode::SystemError);
    assert!(world.link("esx01", 0).is_up);
}

#[tokio::test]
async fn a_box_takes_the_place_of_a_dead_one_only() {
    let mut world = World::new().await;
    let second = Fabric::start(world.config()).await.unwrap_err().to_string();
    let pid = std::process::id();
    assert_eq!(
        second,
        format!(
            "a box is already running here (process {pid}); stop it first, or use another directory"
        )
    );
    world.stop().await;
    // What a killed one leaves behind.
    drop(std::os::unix::net::UnixListener::bind(world.socket()).unwrap());
    assert!(world.socket().exists());
    world.start().await;
    world.connect("esx01").await;
    world.stop().await;
    assert!(!world.socket().exists());
}

#[tokio::test]
async fn the_socket_is_private() {
    let world = World::new().await;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.socket()), 0o600);
    assert_eq!(mode(world.socket().parent().unwrap()), 0o700);

    let mut config = world.config();
    config.socket = world.directory.path().join("x".repeat(108));
    let error = Fabric::start(config).await.unwrap_err().to_string();
    assert!(error.contains("longer than 107 bytes"), "{error}");
}

#[tokio::test]
async fn nobody_is_let_in_twice_or_without_cards() {
    let world = World::new().await;
    let socket = world.socket();
    let first = world.connect("esx01").await;
    let second = Underlay::connect(&socket, machine("esx01"), &[nic(0)]).await.unwrap_err();
    assert!(matches!(second, ConnectError::NameTaken { .. }), "{second}");
    assert_eq!(world.fabric().links().len(), 2, "its cards are as they were");
    for nics in [&[][..], &[nic(0), nic(0)]] {
        let error = Underlay::connect(&socket, machine("esx02"), nics).await.unwrap_err();
        assert!(matches!(error, ConnectError::BadNics { .. }), "{error}");
    }
    drop(first);
    // Who comes right after a death is let in, whether the death was noticed or not.
    world.connect("esx01").await;

    let nowhere = world.directory.path().join("nothing.sock");
    let error = Underlay::connect(&nowhere, machine("esx01"), &[nic(0)]).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoFabric { .. }), "{error}");
    assert_eq!(Control::connect(&nowhere).await.unwrap_err().code, FaultCode::HostNotConnected);
}

#[tokio::test]
async fn garbage_ends_the_connection_and_nothing_else() {
    let world = World::new().await;
    let esx01 = world.connect("esx01").await;
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        None,
    )
    .unwrap();
    let address = rustix::net::SocketAddrUnix::new(world.socket()).unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    rustix::net::send(&socket, b"GET / HTTP/1.1", rustix::net::SendFlags::NOSIGNAL).unwrap();
    in_time(tokio::task::spawn_blocking(move || {
        let read = rustix::net::recv(&socket, &mut [0; 8][..], rustix::net::RecvFlags::empty());
        assert_eq!(read.unwrap().0, 0);
    }))
    .await
    .unwrap();
    let mut listener = esx01.listen(902).await.unwrap();
    open(&esx01, &mut listener, 902).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_machines_fit() {
    let world = World::new().await;
    let vcenter = world.connect("vcenter").await;
    let mut joining = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let socket = world.socket();
        joining.spawn(async move {
            let name = machine(&format!("esx{number:04}"));
            let host = Underlay::connect(&socket, name, &[nic(0), nic(1)]).await.unwrap();
            let listener = host.listen(902).await.unwrap();
            (host, listener)
        });
    }
    let mut hosts = in_time(joining.join_all()).await;
    let control = Control::at(&world.socket());
    assert_eq!(control.links().await.unwrap().len(), 2002);
    for (host, listener) in &mut hosts {
        let name = host.name().to_string();
        let (mut near, mut far) = in_time(open_to(&vcenter, listener, &name, 902)).await;
        pass(&mut near, &mut far, "hello").await;
    }
}
