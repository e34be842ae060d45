/// Applies a mask (RFC 6455, section 5.3). `position` is the number of payload bytes that came before.
pub(super) fn apply_mask(payload: &mut [u8], mask: [u8; 4], position: usize) {
    let wide: [u8; 32] = std::array::from_fn(|i| mask[(position + i) % 4]);
    // Wide blocks, which compilers turn into a few vector instructions.
    let (blocks, rest) = payload.as_chunks_mut::<32>();
    for block in blocks {
        for (byte, mask) in block.iter_mut().zip(wide) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in rest.iter_mut().zip(wide) {
        *byte ^= mask;
    }
}
