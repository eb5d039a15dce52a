//! How layers name each other, and how `qemu-img`'s words become faults.

use super::*;

#[test]
fn a_layer_names_the_one_below_relative_to_itself() {
    for (from, to, expected) in [
        ("vm1/a.qcow2", "vm1/b.qcow2", "b.qcow2"),
        ("vm1/a.qcow2", "template1/b.qcow2", "../template1/b.qcow2"),
        ("a.qcow2", "x/y/b.qcow2", "x/y/b.qcow2"),
        ("x/y/a.qcow2", "x/z/b.qcow2", "../z/b.qcow2"),
        ("x/y/a.qcow2", "b.qcow2", "../../b.qcow2"),
    ] {
        assert_eq!(relative(from, to), Path::new(expected), "{from} over {to}");
    }
}

#[test]
fn a_full_datastore_and_a_disk_in_use_have_codes_of_their_own() {
    let full = words_fault("qemu-img: error while writing: No space left on device\n");
    assert_eq!(full.code, FaultCode::NoDiskSpace);
    let used = words_fault(
        "qemu-img: a.qcow2: Failed to get \"write\" lock\nIs another process using the image?\n",
    );
    assert_eq!(used.code, FaultCode::ResourceInUse);
    let other = words_fault("qemu-img: Could not open 'a.qcow2': Image is not in qcow2 format\n");
    assert_eq!(other.message, "qemu-img: Could not open 'a.qcow2': Image is not in qcow2 format");
}
