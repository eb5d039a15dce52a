//! The screen of a simulated VM: a picture that says that it is simulated.

use font8x8::legacy::BASIC_LEGACY;
use racknest_types::fault::Fault;

const WIDTH: usize = 640;
const HEIGHT: usize = 200;
/// Each pixel of the 8 by 8 font is drawn this many times across and down.
const ZOOM: usize = 2;
const GLYPH: usize = 8 * ZOOM;
const MARGIN: usize = GLYPH;
/// One bit a pixel, most significant first.
const ROW_BYTES: usize = WIDTH / 8;

/// These lines, white on black, as a PNG. What does not fit is cut off.
pub(super) fn draw(lines: &[&str]) -> Result<Vec<u8>, Fault> {
    let mut pixels = vec![0; ROW_BYTES * HEIGHT];
    for (row, line) in lines.iter().enumerate() {
        for (column, letter) in line.chars().enumerate() {
            let (x, y) = (MARGIN + column * GLYPH, MARGIN + row * GLYPH * 3 / 2);
            if x + GLYPH <= WIDTH && y + GLYPH <= HEIGHT {
                draw_letter(&mut pixels, letter, x, y);
            }
        }
    }
    encode(&pixels).map_err(|error| Fault::system(format!("cannot make the picture: {error}")))
}

fn draw_letter(pixels: &mut [u8], letter: char, x: usize, y: usize) {
    // The table is ASCII; anything else is shown as a question mark.
    let ascii = if letter.is_ascii() { letter } else { '?' };
    let glyph = BASIC_LEGACY[usize::try_from(u32::from(ascii)).unwrap_or_default()];
    for (down, bits) in (0..GLYPH).map(|down| (down, glyph[down / ZOOM])) {
        for across in (0..GLYPH).filter(|across| bits >> (across / ZOOM) & 1 == 1) {
            let at = x + across;
            pixels[(y + down) * ROW_BYTES + at / 8] |= 0x80 >> (at % 8);
        }
    }
}

fn encode(pixels: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let side = |pixels| u32::try_from(pixels).expect("the picture is small");
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side(WIDTH), side(HEIGHT));
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_a_png_with_the_words_in_it() {
        let file = draw(&["simulated", &"long".repeat(100), "\u{e4}"]).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), (640, 200));
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let white = |line: usize| {
            let rows = MARGIN + line * GLYPH * 3 / 2..MARGIN + line * GLYPH * 3 / 2 + GLYPH;
            rows.flat_map(|y| &pixels[y * ROW_BYTES..(y + 1) * ROW_BYTES])
                .map(|byte| byte.count_ones())
                .sum::<u32>()
        };
        assert!(white(0) > 100 && white(1) > white(0) && white(2) > 10 && white(3) == 0);
    }
}
