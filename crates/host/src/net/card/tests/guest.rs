//! A guest's memory with two rings, and QEMU's side of the talk about it.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost::vhost_user::{Frontend, VhostUserFrontend as _, VhostUserVirtioFeatures};
use vhost::{
    VhostBackend as _, VhostUserDirtyLogRegion, VhostUserMemoryRegionInfo, VringConfigData,
};
use virtio_bindings::bindings::virtio_config;
use vm_memory::{
    Bytes as _, FileOffset, GuestAddress, GuestMemoryBackend as _, MmapRegion, VolatileMemory as _,
};
use vmm_sys_util::eventfd::EventFd;

use super::*;

type Memory = GuestMemoryMmap<()>;

const MEMORY_SIZE: usize = 4 << 20;
const ENTRIES: u16 = 128;
const BUFFER_SIZE: u32 = 4_096;
const BUFFERS_AT: u64 = 0x10_0000;
const PACKET_AT: u64 = 0x30_0000;

/// A packet with what is left to do for it.
pub(super) struct Sending {
    offload: Offload,
    pub(super) frame: Vec<u8>,
}

/// A packet of TCP in one large frame.
pub(super) struct Large;

pub(super) const LARGE: Large = Large;

impl Large {
    pub(super) fn to(&self, card: u8) -> Sending {
        let size = u16::to_be_bytes(40 + 20_000);
        let ip = [0x45, 0, size[0], size[1], 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let mut tcp = [0; 20];
        tcp[12] = 5 << 4;
        let head = [&[2, 0, 0, 0, 0, card, 2, 0, 0, 0, 0, 1, 8, 0][..], &ip, &tcp].concat();
        let offload = Offload {
            needs_checksum: true,
            segmentation: Segmentation::TcpV4 { ecn: false },
            header_len: 54,
            segment_size: 1_460,
            checksum_start: 34,
            checksum_offset: 16,
            ..Offload::NONE
        };
        Sending { offload, frame: [head, vec![7; 20_000]].concat() }
    }
}

pub(super) fn word(to: u8, from: u8, word: &[u8]) -> Sending {
    let head = [2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x88, 0xb5];
    Sending { offload: Offload::NONE, frame: [&head[..], word].concat() }
}

pub(super) struct FakeGuest {
    memory: Memory,
    frontend: Frontend,
    kicks: [EventFd; 2],
    calls: [EventFd; 2],
    /// Entries offered and used so far, of each ring.
    offered: [u16; 2],
    received: u16,
}

/// The notes of a migration.
pub(super) struct Log(MmapRegion<()>);

impl FakeGuest {
    pub(super) fn new(path: &Path, offloads: bool) -> Self {
        let file = tempfile::tempfile().unwrap();
        file.set_len(MEMORY_SIZE.try_into().unwrap()).unwrap();
        let ranges = [(GuestAddress(0), MEMORY_SIZE, Some(FileOffset::new(file, 0)))];
        let memory = Memory::from_ranges_with_files(ranges).unwrap();
        let mut frontend = Frontend::connect(path, 2).unwrap();
        frontend.set_owner().unwrap();
        let has = frontend.get_features().unwrap();
        let protocol = frontend.get_protocol_features().unwrap();
        assert!(protocol.contains(VhostUserProtocolFeatures::LOG_SHMFD));
        frontend.set_protocol_features(protocol).unwrap();
        let mut features = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
            | 1 << virtio_config::VIRTIO_F_VERSION_1
            | 1 << virtio_net::VIRTIO_NET_F_MRG_RXBUF;
        if offloads {
            features = has & !VhostUserVirtioFeatures::LOG_ALL.bits() & !(1 << 29);
        }
        frontend.set_features(features).unwrap();
        // Before there is a ring, as QEMU does. (It does so before the features, too; this crate's
        // frontend does not.)
        for ring in 0..2 {
            frontend.set_vring_enable(ring, true).unwrap();
        }
        let region = memory.iter().next().unwrap();
        let region = VhostUserMemoryRegionInfo::from_guest_region(region).unwrap();
        frontend.set_mem_table(&[region]).unwrap();
        let kicks = [(); 2].map(|()| EventFd::new(0).unwrap());
        let calls = [(); 2].map(|()| EventFd::new(libc::EFD_NONBLOCK).unwrap());
        let offered = [0; 2];
        let guest = Self { memory, frontend, kicks, calls, offered, received: 0 };
        guest.start();
        guest
    }

    fn start(&self) {
        for (place, (kick, call)) in self.kicks.iter().zip(&self.calls).enumerate() {
            let at = |offset: u64| {
                let address = GuestAddress(ring(place) + offset);
                u64::try_from(self.memory.get_host_address(address).unwrap().addr()).unwrap()
            };
            self.frontend.set_vring_num(place, ENTRIES).unwrap();
            let config = VringConfigData {
                queue_max_size: ENTRIES,
                queue_size: ENTRIES,
                flags: 0,
                desc_table_addr: at(0),
                avail_ring_addr: at(AVAILABLE_AT),
                used_ring_addr: at(USED_AT),
                log_addr: None,
            };
            self.frontend.set_vring_addr(place, &config).unwrap();
            self.frontend.set_vring_base(place, 0).unwrap();
            self.frontend.set_vring_call(place, call).unwrap();
            self.frontend.set_vring_kick(place, kick).unwrap();
        }
        // What was said has been taken in once something later is answered.
        self.frontend.get_features().unwrap();
    }

    /// Offers so many more empty buffers.
    pub(super) fn offer(&mut self, count: u16) {
        for _ in 0..count {
            let number = self.offered[RECEIVE];
            self.enter(
                RECEIVE,
                BUFFERS_AT + u64::from(number) * u64::from(BUFFER_SIZE),
                BUFFER_SIZE,
            );
        }
        self.kicks[RECEIVE].write(1).unwrap();
    }

    pub(super) fn send(&mut self, sending: &Sending) {
        let packet = [&sending.offload.write()[..], &sending.frame].concat();
        self.memory.write_slice(&packet, GuestAddress(PACKET_AT)).unwrap();
        self.enter(SEND, PACKET_AT, u32::try_from(packet.len()).unwrap());
        self.kicks[SEND].write(1).unwrap();
        // The packet's place is used for the next one.
        while self.used(SEND) != self.offered[SEND] {
            std::thread::yield_now();
        }
    }

    /// Sends from where there is no memory.
    pub(super) fn send_from_nowhere(&mut self) {
        self.enter(SEND, u64::MAX / 2, 60);
        self.kicks[SEND].write(1).unwrap();
    }

    fn enter(&mut self, place: usize, address: u64, size: u32) {
        let number = self.offered[place];
        let entry = number % ENTRIES;
        let flags: u16 = if place == RECEIVE { 2 } else { 0 };
        let at = ring(place) + 16 * u64::from(entry);
        self.write(at, address);
        self.write(at + 8, size);
        self.write(at + 12, flags);
        self.write(ring(place) + AVAILABLE_AT + 4 + 2 * u64::from(entry), entry);
        self.offered[place] = number + 1;
        let index = GuestAddress(ring(place) + AVAILABLE_AT + 2);
        self.memory.store(number + 1, index, Ordering::Release).unwrap();
    }

    fn write<T: vm_memory::ByteValued>(&self, at: u64, value: T) {
        self.memory.write_obj(value, GuestAddress(at)).unwrap();
    }

    fn used(&self, place: usize) -> u16 {
        let index = GuestAddress(ring(place) + USED_AT + 2);
        self.memory.load(index, Ordering::Acquire).unwrap()
    }

    /// The next packet, from as many buffers as it says.
    pub(super) async fn receive(&mut self) -> (Offload, Vec<u8>) {
        let first = self.next_buffer().await;
        let count = u16::from_le_bytes([first[10], first[11]]);
        let mut packet = first;
        for _ in 1..count {
            packet.extend(self.next_buffer().await);
        }
        let frame = packet.split_off(Offload::LEN);
        (Offload::read(&packet).unwrap(), frame)
    }

    /// The next packet, if it comes within a moment.
    pub(super) async fn receive_soon(&mut self) -> Option<(Offload, Vec<u8>)> {
        tokio::time::timeout(Duration::from_millis(50), self.receive()).await.ok()
    }

    async fn next_buffer(&mut self) -> Vec<u8> {
        while self.used(RECEIVE) == self.received {
            tokio::task::yield_now().await;
        }
        let entry = u64::from(self.received % ENTRIES);
        let at = ring(RECEIVE) + USED_AT + 4 + 8 * entry;
        let size: u32 = self.memory.read_obj(GuestAddress(at + 4)).unwrap();
        let mut bytes = vec![0; size.try_into().unwrap()];
        let buffer = BUFFERS_AT + u64::from(self.received) * u64::from(BUFFER_SIZE);
        self.memory.read_slice(&mut bytes, GuestAddress(buffer)).unwrap();
        self.received += 1;
        bytes
    }

    /// Has noted what is written, from now on.
    pub(super) fn log(&self) -> Log {
        let size = MEMORY_SIZE / 4_096 / 8;
        let file = tempfile::tempfile().unwrap();
        file.set_len(size.try_into().unwrap()).unwrap();
        let log = MmapRegion::from_file(FileOffset::new(file.try_clone().unwrap(), 0), size);
        let region = VhostUserDirtyLogRegion {
            mmap_size: size.try_into().unwrap(),
            mmap_offset: 0,
            mmap_handle: file.as_raw_fd(),
        };
        self.frontend.set_log_base(0, Some(region)).unwrap();
        self.frontend.get_features().unwrap();
        Log(log.unwrap())
    }

    pub(super) fn buffer_page(&self, number: u16) -> u64 {
        BUFFERS_AT / 4_096 + u64::from(number)
    }

    pub(super) fn used_page(&self) -> u64 {
        (ring(RECEIVE) + USED_AT) / 4_096
    }
}

impl Log {
    pub(super) fn pages(&self) -> BTreeSet<u64> {
        let is_noted = |page: &u64| {
            let bits = self.0.get_atomic_ref::<AtomicU8>((page / 8).try_into().unwrap()).unwrap();
            bits.load(Ordering::Acquire) & (1 << (page % 8)) != 0
        };
        (0..u64::try_from(MEMORY_SIZE / 4_096).unwrap()).filter(is_noted).collect()
    }
}

/// Where a ring is: its descriptors, and at these places what is offered and what is used.
fn ring(place: usize) -> u64 {
    0x1_0000 * u64::try_from(place).unwrap()
}

const AVAILABLE_AT: u64 = 0x4000;
const USED_AT: u64 = 0x8000;
const SEND: usize = 1;
