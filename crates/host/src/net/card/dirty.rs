//! Which pages of a guest the switch has written to, noted for QEMU while the guest moves to another
//! host: QEMU sees what the guest writes, but not what is written here.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use vm_memory::bitmap::{Bitmap, BitmapSlice, NewBitmap, WithBitmapSlice};
use vm_memory::{MmapRegion, VolatileMemory as _};

/// What one bit of the log stands for, as the vhost protocol says.
const PAGE: u64 = 4096;

/// The notes of one region of a guest's memory. Clones are the same notes.
#[derive(Clone, Debug, Default)]
pub(super) struct Dirty {
    shared: Arc<Shared>,
    /// Where this part of the region begins.
    base: usize,
}

#[derive(Debug, Default)]
struct Shared {
    /// Looked at for each write: mostly there is nothing to note.
    is_on: AtomicBool,
    place: RwLock<Option<Place>>,
}

/// Where it is noted.
#[derive(Debug)]
struct Place {
    log: Arc<MmapRegion<()>>,
    /// The guest's address of the region's first byte.
    address: u64,
}

impl Dirty {
    /// Notes from now on, in a log of one bit for each page of the guest; or no more.
    pub(super) fn note_in(&self, log: Option<(Arc<MmapRegion<()>>, u64)>) {
        let mut place = self.shared.place.write().unwrap_or_else(PoisonError::into_inner);
        *place = log.map(|(log, address)| Place { log, address });
        self.shared.is_on.store(place.is_some(), Ordering::Release);
    }
}

impl Place {
    fn note(&self, offset: usize, len: usize) {
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        let len = u64::try_from(len).unwrap_or(u64::MAX).max(1);
        let first = self.address.saturating_add(offset);
        let last = first.saturating_add(len - 1);
        for page in first / PAGE..=last / PAGE {
            // A page that the log does not have is none of the guest's.
            let _ = self.bits(page).map(|bits| bits.fetch_or(1 << (page % 8), Ordering::AcqRel));
        }
    }

    fn bits(&self, page: u64) -> io::Result<&AtomicU8> {
        let at = usize::try_from(page / 8).map_err(io::Error::other)?;
        self.log.get_atomic_ref(at).map_err(io::Error::other)
    }
}

impl Bitmap for Dirty {
    fn mark_dirty(&self, offset: usize, len: usize) {
        if !self.shared.is_on.load(Ordering::Acquire) {
            return;
        }
        let place = self.shared.place.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = &*place {
            place.note(self.base.saturating_add(offset), len);
        }
    }

    fn dirty_at(&self, offset: usize) -> bool {
        let place = self.shared.place.read().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = &*place else { return false };
        let offset = u64::try_from(self.base.saturating_add(offset)).unwrap_or(u64::MAX);
        let page = place.address.saturating_add(offset) / PAGE;
        place.bits(page).is_ok_and(|bits| bits.load(Ordering::Acquire) & (1 << (page % 8)) != 0)
    }

    fn slice_at(&self, offset: usize) -> Self {
        Self { shared: Arc::clone(&self.shared), base: self.base.saturating_add(offset) }
    }
}

impl BitmapSlice for Dirty {}

impl WithBitmapSlice<'_> for Dirty {
    type S = Self;
}

impl NewBitmap for Dirty {
    fn with_len(_len: usize) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(log: &MmapRegion<()>, at: usize) -> u8 {
        log.get_atomic_ref::<AtomicU8>(at).unwrap().load(Ordering::Relaxed)
    }

    #[test]
    fn each_page_that_is_written_to_has_its_bit() {
        let log = Arc::new(MmapRegion::new(16).unwrap());
        let dirty = Dirty::with_len(0);
        dirty.mark_dirty(0, 1);
        dirty.note_in(Some((Arc::clone(&log), 8 * PAGE)));
        let page = usize::try_from(PAGE).unwrap();
        // From the last byte of the first page to the first of the third.
        dirty.slice_at(page - 2).mark_dirty(1, page + 2);
        dirty.mark_dirty(9 * page, 0);
        let bytes: Vec<u8> = (0..4).map(|at| noted(&log, at)).collect();
        assert_eq!(bytes, [0, 0b0000_0111, 0b0000_0010, 0]);
        assert!(dirty.dirty_at(0) && !dirty.dirty_at(3 * page));
    }

    #[test]
    fn what_is_beyond_the_log_and_what_comes_after_it_is_not_noted() {
        let log = Arc::new(MmapRegion::new(1).unwrap());
        let dirty = Dirty::default();
        dirty.note_in(Some((Arc::clone(&log), 0)));
        dirty.mark_dirty(usize::MAX, usize::MAX);
        dirty.note_in(None);
        dirty.mark_dirty(0, 1);
        assert_eq!(noted(&log, 0), 0);
    }
}
