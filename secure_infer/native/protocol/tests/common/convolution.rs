//! A convolution as the textbook has it, to compare with.

use blindread_protocol::StepParameters;

/// Of `x` [c, h, w] with square kernels of side `k`, zero padding of `k / 2` and `o` outputs.
pub fn conv(
    x: &[i64],
    [c, h, w]: [usize; 3],
    p: &StepParameters,
    o: usize,
    stride: usize,
    groups: usize,
    k: usize,
) -> Vec<i64> {
    let StepParameters::Linear { weights, bias } = p else {
        unreachable!()
    };
    let pad = k / 2;
    let (oh, ow) = (
        (h + 2 * pad - k) / stride + 1,
        (w + 2 * pad - k) / stride + 1,
    );
    let per = c / groups;
    let mut out = Vec::new();
    for out_c in 0..o {
        for y in 0..oh {
            for x0 in 0..ow {
                let at = (out_c * oh + y) * ow + x0;
                let mut sum = bias[if bias.len() == o { out_c } else { at }];
                for i in 0..per {
                    let in_c = out_c / (o / groups) * per + i;
                    for dy in 0..k {
                        for dx in 0..k {
                            let (yy, xx) = (
                                (y * stride + dy).wrapping_sub(pad),
                                (x0 * stride + dx).wrapping_sub(pad),
                            );
                            if yy < h && xx < w {
                                sum += i64::from(weights[((out_c * per + i) * k + dy) * k + dx])
                                    * x[(in_c * h + yy) * w + xx];
                            }
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}
