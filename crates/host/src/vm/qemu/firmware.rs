//! The two pieces of machine code that racknest brings: they run inside the guest, before any system.
//!
//! **The stop ROM** is the last thing a VM tries to boot. SeaBIOS alone, when no disk boots, waits for
//! the next timer tick, 18.2 times a second, and each time throws the emulated CPU's translations
//! away: sixty such VMs idle at half a core. The ROM says on screen and serial port why the VM stops
//! here, stops the timer and halts, which costs nothing (docs/measurements/guest.md).
//!
//! **The probe sector** is a boot disk that writes one byte to a port on which QEMU exits: seeing
//! that exit code proves that an accelerator runs guest code.

use std::path::Path;

use racknest_types::fault::Fault;

use crate::whole_file;

/// The size of both: one sector, and the unit in which a ROM's length is given.
const SECTOR: usize = 512;

/// Where the ROM's "PnP" header, which makes it a boot entry, starts.
const PNP_AT: usize = 0x1c;
const PNP_LENGTH: usize = 32;
const CODE_AT: usize = PNP_AT + PNP_LENGTH;

const MAKER: &[u8] = b"racknest\0";
const PRODUCT: &[u8] = b"racknest: no operating system\0";
const MESSAGE: &[u8] =
    b"\r\nNo bootable disk: this virtual machine has no operating system and stops here.\r\n\0";

/// The port of QEMU's `isa-debug-exit` device in the probe machine.
pub(super) const PROBE_PORT: u8 = 0xf4;

/// What the probe sector writes there.
const PROBE_VALUE: u8 = 0x2a;

/// The exit code with which QEMU then ends: it doubles the value and adds one.
pub(super) const PROBE_EXIT_CODE: i32 = 2 * 0x2a + 1;

/// Puts the stop ROM into this file.
pub(super) fn install_stop_rom(path: &Path) -> Result<(), Fault> {
    let rom = stop_rom();
    if fs_err::read(path).is_ok_and(|old| old == rom) {
        return Ok(());
    }
    whole_file::replace(path, &rom)
        .map_err(|error| Fault::system(format!("cannot write the stop ROM: {error}")))
}

/// A boot disk that ends QEMU with [`PROBE_EXIT_CODE`].
pub(super) fn probe_sector() -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    let code = [
        0xb0,
        PROBE_VALUE, // mov al, value
        0xe6,
        PROBE_PORT, // out port, al
        0xf4,       // hlt
        0xeb,
        0xfd, // jmp to hlt
    ];
    sector[..code.len()].copy_from_slice(&code);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// What the ROM does when it is booted. `text` is where its message starts.
#[rustfmt::skip]
fn stop_code(text: u16) -> Vec<u8> {
    let [text_low, text_high] = text.to_le_bytes();
    vec![
        0xfa,                      // cli
        0xfc,                      // cld
        0x0e, 0x1f,                // push cs; pop ds
        0xbe, text_low, text_high, // mov si, text
        0xac,                      // next: lodsb
        0x84, 0xc0,                // test al, al
        0x74, 0x0f,                // jz stop
        0x50,                      // push ax
        0xb4, 0x0e,                // mov ah, 0x0e
        0xbb, 0x07, 0x00,          // mov bx, 7
        0xcd, 0x10,                // int 0x10: a letter on the screen
        0x58,                      // pop ax
        0xba, 0xf8, 0x03,          // mov dx, 0x3f8
        0xee,                      // out dx, al: and on the first serial port
        0xeb, 0xec,                // jmp next
        0xfa,                      // stop: cli
        0xb0, 0xff,                // mov al, 0xff
        0xe6, 0x21, 0xe6, 0xa1,    // out 0x21, al; out 0xa1, al: no interrupts
        0xb0, 0x30, 0xe6, 0x43,    // timer 0 counts once ...
        0x30, 0xc0,                // xor al, al
        0xe6, 0x40, 0xe6, 0x40,    // ... from zero, then no more
        0xf4,                      // hlt
        0xeb, 0xfd,                // jmp to hlt
    ]
}

fn stop_rom() -> Vec<u8> {
    let at = |offset: usize| u16::try_from(offset).expect("a ROM of one sector").to_le_bytes();
    let maker_at = CODE_AT + stop_code(0).len();
    let product_at = maker_at + MAKER.len();
    let text_at = product_at + PRODUCT.len();

    let mut rom = vec![0; SECTOR];
    let mut put = |offset: usize, bytes: &[u8]| {
        rom[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0, &[0x55, 0xaa, 1, 0xcb]); // signature, one sector, an init entry that returns at once
    put(0x1a, &at(PNP_AT));
    put(PNP_AT, b"$PnP\x01\x02");
    put(PNP_AT + 14, &at(maker_at));
    put(PNP_AT + 16, &at(product_at));
    put(PNP_AT + 18, &[0x02, 0, 0, 0x64]); // a network boot device, which is what BIOSes try last
    put(PNP_AT + 26, &at(CODE_AT)); // its boot entry
    put(CODE_AT, &stop_code(u16::from_le_bytes(at(text_at))));
    put(maker_at, MAKER);
    put(product_at, PRODUCT);
    put(text_at, MESSAGE);

    // Both sums must be zero: the header's first, because it is part of the whole.
    rom[PNP_AT + 9] = complement(&rom[PNP_AT..PNP_AT + PNP_LENGTH]);
    rom[SECTOR - 1] = complement(&rom);
    rom
}

/// The byte that makes the sum of these zero.
fn complement(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_that_the_firmware_checks_are_zero() {
        let rom = stop_rom();
        assert_eq!(rom.len(), SECTOR);
        assert_eq!(complement(&rom), 0);
        assert_eq!(complement(&rom[PNP_AT..PNP_AT + PNP_LENGTH]), 0);
    }

    #[test]
    fn the_rom_is_written_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stop.rom");
        install_stop_rom(&path).unwrap();
        let first = fs_err::metadata(&path).unwrap().modified().unwrap();
        install_stop_rom(&path).unwrap();
        assert_eq!(fs_err::metadata(&path).unwrap().modified().unwrap(), first);
    }
}
