//! Guests whose memory is shared, without QEMU: what a driver and QEMU do is done by hand.

mod guest;

use racknest_cluster::record::vm::Nic;
use racknest_types::id::{NetworkId, VmId};
use racknest_underlay::{Fabric, FabricConfig, Underlay};

use self::guest::{FakeGuest, LARGE};
use super::super::{Network, Order, Uplink};
use super::*;
use crate::layout::Layout;

struct Host {
    directory: tempfile::TempDir,
    _fabric: Fabric,
    layout: Layout,
    network: Network,
}

fn nic(card: u8, vlan: u16) -> Nic {
    let network = NetworkId::from_raw(1);
    let (connected, address, port) = (true, None, None);
    Nic { key: 1, mac: [2, 0, 0, 0, 0, card], network, vlan, connected, address, port }
}

impl Host {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("u");
        let links_file = directory.path().join("links.json");
        let fabric = Fabric::start(FabricConfig { socket: socket.clone(), links_file });
        let nics = ["vmnic0".parse().unwrap()];
        let fabric = fabric.await.unwrap();
        let underlay = Underlay::connect(&socket, "esx01".parse().unwrap(), &nics).await.unwrap();
        let layout = Layout::new(directory.path(), directory.path().join("r"));
        let port = underlay.ethernet(&nics[0]).await.unwrap();
        let uplinks = vec![Uplink { nic: nics[0].clone(), port }];
        let network = Network::start("esx01", &layout, uplinks, underlay.links()).unwrap();
        Self { directory, _fabric: fabric, layout, network }
    }

    fn plug(&self, card: u8, vlan: u16) {
        let vm = VmId::from_raw(card.into());
        self.network.order(Order::Plug { vm, nics: vec![nic(card, vlan)] });
    }

    /// A guest whose driver can do all, or nothing but take plain frames.
    async fn guest(&self, card: u8, offloads: bool) -> FakeGuest {
        self.plug(card, 0);
        let path = self.layout.card_socket(VmId::from_raw(card.into()), 1);
        while !path.exists() {
            tokio::task::yield_now().await;
        }
        FakeGuest::new(&path, offloads)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_frame_passes_whole_to_a_driver_that_takes_it_and_split_to_one_that_does_not() {
    let host = Host::new().await;
    let mut web = host.guest(1, true).await;
    let mut able = host.guest(2, true).await;
    let mut plain = host.guest(3, false).await;
    for guest in [&mut web, &mut able, &mut plain] {
        guest.offer(64);
    }
    web.send(&LARGE.to(2));
    let (offload, frame) = able.receive().await;
    assert_eq!(offload.segmentation, Segmentation::TcpV4 { ecn: false });
    assert!(frame == LARGE.to(2).frame);
    web.send(&LARGE.to(3));
    for size in [1_514; 13].into_iter().chain([54 + 20_000 - 13 * 1_460]) {
        let (offload, frame) = plain.receive().await;
        assert_eq!((offload, frame.len()), (Offload::NONE, size));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_has_no_buffers_for_waits_until_it_has() {
    let host = Host::new().await;
    let mut web = host.guest(1, true).await;
    let mut db = host.guest(2, true).await;
    db.offer(1);
    for word in [b"first", b"other"] {
        web.send(&guest::word(2, 1, word));
    }
    let (_, first) = db.receive().await;
    db.offer(8);
    let (_, second) = db.receive().await;
    assert_eq!((&first[14..], &second[14..]), (&b"first"[..], &b"other"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_connects_again_goes_on() {
    let host = Host::new().await;
    let mut web = host.guest(1, true).await;
    let db = host.guest(2, true).await;
    drop(db);
    let mut db = host.guest(2, true).await;
    db.offer(8);
    // Its former connection ends in its own time.
    let frame = loop {
        web.send(&guest::word(2, 1, b"again"));
        if let Some((_, frame)) = db.receive_soon().await {
            break frame;
        }
    };
    assert_eq!(&frame[14..], b"again");
    assert!(host.directory.path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_into_a_guest_that_moves_is_noted() {
    let host = Host::new().await;
    let mut web = host.guest(1, true).await;
    let mut db = host.guest(2, true).await;
    db.offer(8);
    let log = db.log();
    web.send(&guest::word(2, 1, b"noted"));
    db.receive().await;
    let noted = log.pages();
    assert!(noted.contains(&db.buffer_page(0)), "the buffer's page is among {noted:?}");
    assert!(noted.contains(&db.used_page()), "and so is the ring's");
    assert!(!noted.contains(&db.buffer_page(1)), "an empty buffer's is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_with_a_broken_ring_harms_itself_only() {
    let host = Host::new().await;
    let mut web = host.guest(1, true).await;
    let mut bad = host.guest(2, true).await;
    let mut db = host.guest(3, true).await;
    db.offer(8);
    bad.send_from_nowhere();
    web.send(&guest::word(3, 1, b"unharmed"));
    assert_eq!(&db.receive().await.1[14..], b"unharmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nic_on_another_network_keeps_its_connection() {
    let host = Host::new().await;
    let mut web = host.guest(1, true).await;
    let mut db = host.guest(2, true).await;
    db.offer(8);
    web.send(&guest::word(2, 1, b"before"));
    db.receive().await;
    host.plug(2, 20);
    host.plug(1, 20);
    let frame = loop {
        web.send(&guest::word(2, 1, b"after"));
        if let Some((_, frame)) = db.receive_soon().await {
            break frame;
        }
    };
    assert_eq!(&frame[14..], b"after");
}
