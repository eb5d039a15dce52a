//! What QEMU tells of a card (the vhost-user protocol): where the guest's memory is, where the rings
//! are, when they start and stop.
//!
//! A crate serves such connections whole (vhost-user-backend). It ends them when a ring is enabled
//! before the guest's driver has chosen its features, which QEMU does with every network card.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use tokio::task::AbortHandle;
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_bindings::bindings::{virtio_config, virtio_net, virtio_ring};
use virtio_queue::QueueT as _;
use vm_memory::{
    FileOffset, GuestAddress, GuestAddressSpace as _, GuestMemoryBackend as _,
    GuestMemoryRegion as _, GuestRegionMmap, MmapRegion,
};

use super::dirty::Dirty;
use super::ring::Ring;
use super::{Memory, State, follow};
use crate::sys;

/// Pieces of memory that a guest may have: as many as QEMU's machines have slots for, and a few.
const REGIONS_MAX: u64 = 64;

/// One connection of QEMU.
pub(super) struct Talk {
    state: Arc<State>,
    places: Vec<Place>,
    rings: [Kick; 2],
}

/// What tells that a ring has something new.
#[derive(Default)]
struct Kick {
    file: Option<File>,
    follower: Option<AbortHandle>,
}

/// Where a region of the guest is in QEMU's memory, in whose addresses it names rings.
struct Place {
    qemu: u64,
    guest: u64,
    size: u64,
}

/// What the switch can do, as bits of virtio.
fn features() -> u64 {
    let own = [
        virtio_config::VIRTIO_F_VERSION_1,
        virtio_ring::VIRTIO_RING_F_INDIRECT_DESC,
        virtio_ring::VIRTIO_RING_F_EVENT_IDX,
        virtio_net::VIRTIO_NET_F_MRG_RXBUF,
        virtio_net::VIRTIO_NET_F_CSUM,
        virtio_net::VIRTIO_NET_F_HOST_TSO4,
        virtio_net::VIRTIO_NET_F_HOST_TSO6,
        virtio_net::VIRTIO_NET_F_HOST_ECN,
        virtio_net::VIRTIO_NET_F_GUEST_CSUM,
        virtio_net::VIRTIO_NET_F_GUEST_TSO4,
        virtio_net::VIRTIO_NET_F_GUEST_TSO6,
        virtio_net::VIRTIO_NET_F_GUEST_ECN,
    ];
    let own = own.into_iter().fold(0, |bits, bit| bits | (1_u64 << bit));
    let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES | VhostUserVirtioFeatures::LOG_ALL;
    own | protocol.bits()
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::ReqHandlerError(io::Error::other(error))
}

const fn not_offered<T>() -> Result<T> {
    Err(Error::InvalidOperation("not offered"))
}

impl Talk {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state, places: Vec::new(), rings: [Kick::default(), Kick::default()] }
    }

    fn ring(&self, index: u32) -> Result<(usize, &Mutex<Ring>)> {
        let place = usize::try_from(index).map_err(failed)?;
        let ring = self.state.rings.get(place).ok_or(Error::InvalidParam)?;
        Ok((place, ring))
    }

    fn change(&mut self, index: u32, change: impl FnOnce(&mut Ring)) -> Result<()> {
        let (place, ring) = self.ring(index)?;
        change(&mut super::lock(ring));
        self.follow(place)
    }

    /// Looks after a ring from now on, if it is in use: it may have something already.
    fn follow(&mut self, place: usize) -> Result<()> {
        let kick = self.rings.get_mut(place).ok_or(Error::InvalidParam)?;
        if let Some(follower) = kick.follower.take() {
            follower.abort();
        }
        let is_in_use = self.state.rings.get(place).is_some_and(|it| super::lock(it).is_in_use());
        if let Some(file) = kick.file.as_ref().filter(|_| is_in_use) {
            let file = OwnedFd::from(file.try_clone().map_err(failed)?);
            rustix::io::ioctl_fionbio(&file, true).map_err(failed)?;
            let work = follow(Arc::clone(&self.state), place, sys::watch(file).map_err(failed)?);
            kick.follower = Some(tokio::spawn(work).abort_handle());
        }
        Ok(())
    }

    /// Where in the guest's memory an address of QEMU's is.
    fn guest_address(&self, qemu: u64) -> Result<GuestAddress> {
        let place = self.places.iter().find(|it| (it.qemu..it.qemu + it.size).contains(&qemu));
        place.map(|it| GuestAddress(qemu - it.qemu + it.guest)).ok_or(Error::InvalidParam)
    }

    fn add(
        &mut self,
        memory: &Memory,
        region: &VhostUserMemoryRegion,
        file: File,
    ) -> Result<Memory> {
        let mapped = region.mmap_region::<Dirty>(file)?;
        let mapped = GuestRegionMmap::new(mapped, GuestAddress(region.guest_phys_addr));
        let mapped = Arc::new(mapped.ok_or(Error::InvalidParam)?);
        let memory = memory.insert_region(mapped).map_err(failed)?;
        self.places.push(Place {
            qemu: region.user_addr,
            guest: region.guest_phys_addr,
            size: region.memory_size,
        });
        Ok(memory)
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        for kick in &mut self.rings {
            if let Some(follower) = kick.follower.take() {
                follower.abort();
            }
        }
        for ring in &self.state.rings {
            let mut ring = super::lock(ring);
            ring.queue.reset();
            ring.is_enabled = true;
            ring.call = None;
        }
        self.state.set_features(0);
    }
}

impl VhostUserBackendReqHandlerMut for Talk {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        for index in 0..2 {
            self.set_vring_enable(index, false)?;
        }
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(features())
    }

    fn set_features(&mut self, chosen: u64) -> Result<()> {
        if chosen & !features() != 0 {
            return Err(Error::InvalidParam);
        }
        self.state.set_features(chosen);
        let has_events = self.state.has(virtio_ring::VIRTIO_RING_F_EVENT_IDX);
        for ring in &self.state.rings {
            super::lock(ring).queue.set_event_idx(has_events);
        }
        if chosen & VhostUserVirtioFeatures::LOG_ALL.bits() == 0 {
            self.state.memory.memory().iter().for_each(|region| region.bitmap().note_in(None));
        }
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        self.places.clear();
        let mut memory = Memory::new();
        for (region, file) in regions.iter().zip(files) {
            memory = self.add(&memory, region, file)?;
        }
        self.state.set_memory(memory);
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, size: u32) -> Result<()> {
        let size = u16::try_from(size).map_err(|_| Error::InvalidParam)?;
        let (_, ring) = self.ring(index)?;
        super::lock(ring).queue.try_set_size(size).map_err(failed)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptors: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let descriptors = self.guest_address(descriptors)?;
        let (used, available) = (self.guest_address(used)?, self.guest_address(available)?);
        let memory = self.state.memory.memory();
        let (_, ring) = self.ring(index)?;
        let queue = &mut super::lock(ring).queue;
        queue.try_set_desc_table_address(descriptors).map_err(failed)?;
        queue.try_set_used_ring_address(used).map_err(failed)?;
        queue.try_set_avail_ring_address(available).map_err(failed)?;
        // QEMU tells how far the guest is, and not how far we are: that stands in the ring.
        let used =
            queue.used_idx(&*memory, std::sync::atomic::Ordering::Acquire).map_err(failed)?;
        queue.set_next_used(used.0);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        let (_, ring) = self.ring(index)?;
        super::lock(ring).queue.set_next_avail(base);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let mut base = 0;
        self.change(index, |ring| {
            ring.queue.set_ready(false);
            ring.call = None;
            base = ring.queue.next_avail();
        })?;
        let (place, _) = self.ring(index)?;
        self.rings[place].file = None;
        Ok(VhostUserVringState::new(index, base.into()))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let (place, _) = self.ring(index.into())?;
        self.rings[place].file = file;
        self.change(index.into(), |ring| ring.queue.set_ready(true))
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let (_, ring) = self.ring(index.into())?;
        super::lock(ring).call = file;
        Ok(())
    }

    fn set_vring_err(&mut self, _index: u8, _file: Option<File>) -> Result<()> {
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::LOG_SHMFD
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(2)
    }

    fn set_vring_enable(&mut self, index: u32, is_enabled: bool) -> Result<()> {
        self.change(index, |ring| ring.is_enabled = is_enabled)
    }

    fn get_config(
        &mut self,
        _at: u32,
        _size: u32,
        _flags: VhostUserConfigFlags,
    ) -> Result<Vec<u8>> {
        not_offered()
    }

    fn set_config(&mut self, _at: u32, _bytes: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        not_offered()
    }

    fn set_gpu_socket(&mut self, _gpu: GpuBackend) -> Result<()> {
        not_offered()
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        not_offered()
    }

    fn get_inflight_fd(
        &mut self,
        _inflight: &VhostUserInflight,
    ) -> Result<(VhostUserInflight, File)> {
        not_offered()
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        not_offered()
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(REGIONS_MAX)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        let memory = self.state.memory.memory().clone();
        let memory = self.add(&memory, region, file)?;
        self.state.set_memory(memory);
        Ok(None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let at = GuestAddress(region.guest_phys_addr);
        let memory = self.state.memory.memory();
        let (memory, _) = memory.remove_region(at, region.memory_size).map_err(failed)?;
        self.state.set_memory(memory);
        self.places.retain(|place| place.guest != region.guest_phys_addr);
        Ok(())
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        not_offered()
    }

    fn check_device_state(&mut self) -> Result<()> {
        not_offered()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        not_offered()
    }

    /// From now on is noted what is written into the guest: it moves to another host.
    fn set_log_base(&mut self, log: &VhostUserLog, file: File) -> Result<()> {
        let size = usize::try_from(log.mmap_size).map_err(failed)?;
        let mapped = MmapRegion::from_file(FileOffset::new(file, log.mmap_offset), size);
        let mapped = Arc::new(mapped.map_err(failed)?);
        for region in self.state.memory.memory().iter() {
            region.bitmap().note_in(Some((Arc::clone(&mapped), region.start_addr().0)));
        }
        Ok(())
    }
}
