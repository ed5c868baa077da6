// memlib.MLP and one step of memlib.train, by hand, in float64: no allocation in a step.
// Weights lie in one array, in the order of torch's model.parameters().

// out (rows, columns) = a (rows, inner) times b (columns, inner) transposed, plus a bias for each column.
// Two rows and two columns at once keep the processor's registers full; rows and columns are even.
function product(out, a, b, rows, columns, inner, bias) {
  for (let i = 0; i < rows; i += 2) {
    for (let j = 0; j < columns; j += 2) {
      const [a0, a1, b0, b1] = [i * inner, (i + 1) * inner, j * inner, (j + 1) * inner];
      const [c0, c1, o] = [bias ? bias[j] : 0, bias ? bias[j + 1] : 0, i * columns + j];
      let [s00, s01, s10, s11] = [c0, c1, c0, c1];
      for (let k = 0; k < inner; k++) {
        s00 += a[a0 + k] * b[b0 + k];
        s01 += a[a0 + k] * b[b1 + k];
        s10 += a[a1 + k] * b[b0 + k];
        s11 += a[a1 + k] * b[b1 + k];
      }
      [out[o], out[o + 1], out[o + columns], out[o + columns + 1]] = [s00, s01, s10, s11];
    }
  }
}

function transpose(out, a, rows, columns) {
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = a[i * columns + j];
  return out;
}

class Network {
  constructor(settings) {
    const { T, width, depth, frequencies, batch } = settings;
    const inner = 2 + 4 * frequencies;
    const sizes = [[width, width], [width, inner], ...Array(depth).fill([width, width]), [2, width]];
    const total = sizes.reduce((sum, [rows, columns]) => sum + rows * (columns + 1), 0);
    Object.assign(this, { ...settings, inner, sizes, step: 0 });
    for (const name of ["weights", "gradient", "average", "first", "second"]) this[name] = new Float64Array(total);
    for (const name of ["weights", "gradient", "average"]) this[`${name}Of`] = this.layers(this[name]);
    const array = (columns = width) => new Float64Array(Math.max(batch, width) * columns);
    for (const name of ["hidden", "timed", "times", "work", "flipped", "flipped2"]) this[name] = array();
    for (const name of ["out", "noisy", "error"]) this[name] = array(2);
    this.features = array(inner);
    [this.active, this.slopes] = [0, 1].map(() => Array.from({ length: depth + 1 }, () => array())); // seen; derivative
    // float32 as in torch: a sine of some hundred radians shows the rounding
    const [half, round] = [width / 2, Math.fround];
    const angle = (t, i) => round(t * round(Math.exp(round(round(-Math.log(10000) / half) * (i % half)))));
    this.table = Float64Array.from({ length: T * width }, (_, k) => {
      const [t, i] = [Math.floor(k / width), k % width];
      return i < half ? Math.sin(angle(t, i)) : Math.cos(angle(t, i));
    });
  }
  // Each layer's matrix and bias, as views of one array.
  layers(array) {
    let start = 0;
    const take = (n) => array.subarray(start, (start += n));
    return this.sizes.map(([rows, columns]) => ({ matrix: take(rows * columns), bias: take(rows) }));
  }
  // Uniform within 1 / sqrt(inputs), as torch.nn.Linear begins.
  initialise(random) {
    this.weightsOf.forEach(({ matrix, bias }, i) => {
      const bound = 1 / Math.sqrt(this.sizes[i][1]);
      for (const array of [matrix, bias]) array.forEach((_, k) => (array[k] = bound * (2 * random.uniform() - 1)));
    });
    this.average.set(this.weights);
  }
  // The predicted noise of the first n points of x at their timesteps t, in this.out.
  forward(x, t, n, layers = this.averageOf) {
    const { width, depth, frequencies, inner, features, times, hidden, timed, active, slopes, out } = this;
    const rows = 2 * Math.ceil(n / 2);
    for (let i = 0; i < 2 * n; i++) {
      const [row, k] = [(i >> 1) * inner, i & 1];
      features[row + k] = x[i];
      for (let f = 0; f < frequencies; f++) {
        const [angle, place] = [x[i] * (Math.PI / 2) * (1 << f), row + 2 + k * frequencies + f];
        features[place] = Math.sin(angle);
        features[place + 2 * frequencies] = Math.cos(angle);
      }
    }
    for (let k = 0; k < n * width; k++) times[k] = this.table[t[Math.floor(k / width)] * width + (k % width)];
    product(timed, times, layers[0].matrix, rows, width, width, layers[0].bias);
    product(hidden, features, layers[1].matrix, rows, width, inner, layers[1].bias);
    for (let layer = 0; layer <= depth; layer++) {
      const [seen, slope, last] = [active[layer], slopes[layer], layer === depth];
      for (let k = 0; k < n * width; k++) {
        const u = last ? hidden[k] : hidden[k] + timed[k];
        const s = 1 / (1 + Math.exp(-u));
        seen[k] = u * s; // SiLU
        slope[k] = s * (1 + u * (1 - s));
      }
      const { matrix, bias } = layers[2 + layer];
      product(last ? out : this.work, seen, matrix, rows, last ? 2 : width, width, bias);
      if (!last) for (let i = 0; i < n * width; i++) hidden[i] += this.work[i];
    }
    return out;
  }
  // The gradient of the mean squared error, from this.error = d loss / d out, into this.gradient.
  backward(n) {
    const { depth, width, sizes, active, slopes, error, work, flipped, flipped2, hidden, timed } = this;
    const weigh = (layer, delta, seen) => {
      const [{ matrix, bias }, [rows, columns]] = [this.gradientOf[layer], sizes[layer]];
      product(matrix, transpose(flipped2, delta, n, rows), transpose(flipped, seen, n, columns), rows, columns, n);
      bias.fill(0);
      for (let k = 0; k < rows * n; k++) bias[Math.floor(k / n)] += flipped2[k];
    };
    hidden.fill(0); // becomes d loss / d hidden, timed d loss / d timed
    timed.fill(0);
    for (let layer = depth; layer >= 0; layer--) {
      const [delta, [rows]] = [layer === depth ? error : hidden, sizes[2 + layer]];
      weigh(2 + layer, delta, active[layer]);
      product(work, delta, transpose(flipped, this.weightsOf[2 + layer].matrix, rows, width), n, width, rows);
      for (let i = 0; i < n * width; i++) {
        const change = work[i] * slopes[layer][i];
        hidden[i] += change;
        if (layer < depth) timed[i] += change; // the time is seen by every layer but the last
      }
    }
    weigh(1, hidden, this.features);
    weigh(0, timed, this.times);
  }
  // One step of training on a batch: which points, which timesteps, which noise. Returns the loss.
  learn(points, alphaBar, index, t, eps) {
    const { batch, noisy, error } = this;
    for (let i = 0; i < 2 * batch; i++) {
      const a = alphaBar[t[i >> 1]];
      noisy[i] = Math.sqrt(a) * points[2 * index[i >> 1] + (i & 1)] + Math.sqrt(1 - a) * eps[i];
    }
    const out = this.forward(noisy, t, batch, this.weightsOf);
    for (let i = 0; i < 2 * batch; i++) error[i] = (out[i] - eps[i]) / batch;
    this.backward(batch);
    this.adam();
    return (batch / 2) * error.reduce((sum, e) => sum + e * e, 0);
  }
  // Clip the gradient, Adam with a warm-up, and the averaged weights from which samples are made.
  adam() {
    const { weights, gradient, average, first, second } = this;
    const step = ++this.step;
    const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
    const clip = Math.min(1, this.gradClip / (norm + 1e-6));
    const rate = this.learningRate * Math.min(1, step / (this.warmup + 1));
    const [b1, b2] = [1 - 0.9 ** step, Math.sqrt(1 - 0.999 ** step)];
    const keep = Math.min(this.emaDecay, step / (9 + step));
    for (let i = 0; i < weights.length; i++) {
      const g = gradient[i] * clip;
      first[i] += 0.1 * (g - first[i]);
      second[i] += 0.001 * (g * g - second[i]);
      weights[i] -= ((rate / b1) * first[i]) / (Math.sqrt(second[i]) / b2 + 1e-8);
      average[i] += (1 - keep) * (weights[i] - average[i]);
    }
  }
}
