//! Pixels of a screenshot: PNG as chromium writes it, eight bits a channel and not interlaced.
use flate2::read::ZlibDecoder;
use std::io::Read;

/// A decoded picture.
#[derive(Debug)]
pub struct Image {
    /// Pixels from left to right.
    pub width: usize,
    /// Pixels from top to bottom.
    pub height: usize,
    channels: usize,
    /// Row by row, top first.
    pixels: Vec<u8>,
}

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |all, &byte| all << 8 | usize::from(byte))
}

impl Image {
    /// Reads a file's bytes; `None` if they are none that chromium writes.
    #[must_use]
    pub fn decode(file: &[u8]) -> Option<Self> {
        let mut rest = file.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
        let (mut header, mut packed) = (None, Vec::new());
        while let Some((length, after)) = rest.split_at_checked(4) {
            let length = number(length);
            let (name, after) = after.split_at_checked(4)?;
            let (data, after) = after.split_at_checked(length)?;
            match name {
                b"IHDR" => header = Some(data),
                b"IDAT" => packed.extend_from_slice(data),
                _ => {}
            }
            rest = after.get(4..)?;
        }
        let header = header.filter(|header| header.len() == 13)?;
        let channels = match (header[8], header[9], header[12]) {
            (8, 2, 0) => 3,
            (8, 6, 0) => 4,
            _ => return None,
        };
        let (width, height) = (number(&header[..4]), number(&header[4..8]));
        let mut lines = Vec::new();
        ZlibDecoder::new(&*packed).read_to_end(&mut lines).ok()?;
        let pixels = unfiltered(&lines, width * channels, channels)?;
        (pixels.len() == width * height * channels).then_some(Self {
            width,
            height,
            channels,
            pixels,
        })
    }

    /// Red, green and blue at a place.
    ///
    /// # Panics
    /// It is outside.
    #[must_use]
    pub fn at(&self, x: usize, y: usize) -> [u8; 3] {
        assert!(x < self.width && y < self.height, "{x}, {y} is outside");
        let from = (y * self.width + x) * self.channels;
        [0, 1, 2].map(|channel| self.pixels[from + channel])
    }

    /// How many different colours there are.
    #[must_use]
    pub fn colours(&self) -> usize {
        let pixels = self.pixels.chunks_exact(self.channels);
        let mut colours: Vec<_> = pixels.map(|pixel| &pixel[..3]).collect();
        colours.sort_unstable();
        colours.dedup();
        colours.len()
    }
}

/// The lines without what each says of how it differs from its neighbours.
fn unfiltered(lines: &[u8], length: usize, channels: usize) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::with_capacity(lines.len());
    let mut above = vec![0; length];
    for line in lines.chunks_exact(length + 1) {
        let (filter, line) = line.split_first()?;
        let mut now = line.to_vec();
        for at in 0..length {
            let left = at.checked_sub(channels).map_or(0, |at| now[at]);
            let corner = at.checked_sub(channels).map_or(0, |at| above[at]);
            let guess = match filter {
                0 => 0,
                1 => left,
                2 => above[at],
                3 => u16::midpoint(left.into(), above[at].into()) as u8,
                4 => paeth(left, above[at], corner),
                _ => return None,
            };
            now[at] = now[at].wrapping_add(guess);
        }
        out.extend_from_slice(&now);
        above = now;
    }
    Some(out)
}

/// Whichever of the three is next to `left + above - corner`.
fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let guess = i16::from(left) + i16::from(above) - i16::from(corner);
    let far = |value: u8| (guess - i16::from(value)).abs();
    let nearest = [left, above, corner].into_iter().min_by_key(|&v| far(v));
    nearest.unwrap_or(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use std::io::Write;

    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).expect("it is small");
        let length = [24, 16, 8, 0].map(|shift| (length >> shift) as u8);
        [&length, &name[..], data, &[0; 4]].concat()
    }

    /// Two lines of two pixels, with each of the filters.
    #[test]
    fn lines_are_filtered_in_five_ways() {
        let first = [10, 20, 30, 40, 50, 60];
        for (filter, second) in [
            (0, [1, 2, 3, 4, 5, 6]),
            (1, [1, 2, 3, 3, 3, 3]),
            (2, [247, 238, 229, 220, 211, 202]),
            // Above is 10, 20, 30, 40, 50, 60; half of left and above is 5, 10, 15 and 20, 26, 31.
            (3, [252, 248, 244, 240, 235, 231]),
            // The guesses 10, 20, 30, 31 are nearest to what is above, 32 and 33 to what is left of that.
            (4, [247, 238, 229, 220, 241, 232]),
        ] {
            let lines = [&[0], &first[..], &[filter], &second[..]].concat();
            let out = unfiltered(&lines, 6, 3).expect("a known filter");
            assert_eq!(out[..6], first, "filter {filter}");
            assert_eq!(out[6..], [1, 2, 3, 4, 5, 6], "filter {filter}");
        }
        assert_eq!(paeth(50, 10, 10), 50);
        assert_eq!(paeth(10, 20, 15), 15);
        assert!(unfiltered(&[5, 0, 0, 0], 3, 3).is_none());
    }

    #[test]
    fn pixels_are_where_they_were() {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
        packed
            .write_all(&[0, 255, 0, 0, 0, 255, 0, 0, 0, 0, 255, 9, 9, 9])
            .expect("memory");
        let packed = packed.finish().expect("memory");
        let header = [0, 0, 0, 2, 0, 0, 0, 2, 8, 2, 0, 0, 0];
        let file = [
            b"\x89PNG\r\n\x1a\n".to_vec(),
            chunk(b"IHDR", &header),
            chunk(b"IDAT", &packed),
            chunk(b"IEND", b""),
        ]
        .concat();
        let image = Image::decode(&file).expect("a picture");
        assert_eq!((image.width, image.height), (2, 2));
        assert_eq!(image.at(0, 0), [255, 0, 0]);
        assert_eq!(image.at(1, 0), [0, 255, 0]);
        assert_eq!(image.at(0, 1), [0, 0, 255]);
        assert_eq!(image.at(1, 1), [9, 9, 9]);
        assert_eq!(image.colours(), 4);
        assert!(Image::decode(&file[..40]).is_none());
    }
}
