// One network in a worker of its own. It answers each message once, so that two of them stay in lockstep.

const schedule = linearSchedule(SETTINGS.T);

class Trainer {
  constructor({ train, heldOut, curve, p, seed }) {
    Object.assign(this, { train, heldOut, curve });
    const { batch, samples, samplerSteps, noise } = SETTINGS;
    this.network = new Network(SETTINGS, Math.max(samples, heldOut.length / 2));
    this.network.initialise(new Random(seed));
    this.random = new Random(seed + 1000); // the same draws for both networks
    this.cumulative = p.map(((sum) => (mass) => (sum += mass))(0));
    this.batch = { index: new Int32Array(batch), t: new Int32Array(batch), eps: new Float64Array(2 * batch) };
    this.start = new Random(seed + 2000).normals(2 * samples); // x_T of the samples
    const fixed = new Random(7);
    this.tests = Array.from({ length: 20 }, (_, i) => ({ t: 50 * i, eps: fixed.normals(heldOut.length) }));
    const pick = () => curve[Math.floor(fixed.uniform() * curve.length)].map((x) => x + noise * fixed.normal());
    const fresh = Float64Array.from(Array.from({ length: 512 }, pick).flat()); // what copies nothing
    this.exact = flat(ddim(exactDenoiser(train, schedule), schedule, this.start, samplerSteps));
    this.zone = dangerZone(train, schedule);
    this.nulls = { copies: nearCopies(fresh, train, SETTINGS.threshold), off: offCurve(fresh, curve) };
  }
  advance(steps) {
    const { index, t, eps } = this.batch;
    for (let step = 0; step < steps; step++) {
      for (let i = 0; i < t.length; i++) {
        index[i] = Math.floor((this.random.uniform() * this.train.length) / 2);
        const u = this.random.uniform() * this.cumulative[SETTINGS.T - 1];
        t[i] = this.cumulative.findIndex((sum) => sum > u);
      }
      for (let i = 0; i < eps.length; i++) eps[i] = this.random.normal();
      this.network.learn(this.train, schedule.alphaBar, index, t, eps);
    }
  }
  // The reverse process of the averaged weights, and three measures.
  look() {
    const { network, heldOut } = this;
    const predict = (x, t, eps) => eps.set(network.forward(x, t, x.length / 2).subarray(0, x.length));
    const frames = ddim(predict, schedule, this.start, SETTINGS.samplerSteps);
    const samples = frames[frames.length - 1];
    let loss = 0;
    for (const { t, eps } of this.tests) {
      const a = schedule.alphaBar[t];
      const noisy = eps.map((e, i) => Math.sqrt(a) * heldOut[i] + Math.sqrt(1 - a) * e);
      const out = network.forward(noisy, t, eps.length / 2);
      loss += eps.reduce((sum, e, i) => sum + (out[i] - e) ** 2, 0) / eps.length / this.tests.length;
    }
    const copies = nearCopies(samples, this.train, SETTINGS.threshold);
    return { frames: flat(frames), copies, off: offCurve(samples, this.curve), loss };
  }
}

const flat = (frames) => Float32Array.from(frames.flatMap((frame) => [...frame]));
let trainer;
onmessage = ({ data }) => {
  if (data.start) trainer = new Trainer(data.start);
  const begun = performance.now();
  trainer.advance(data.steps);
  const trained = performance.now();
  const { exact, zone, nulls } = trainer;
  const reply = { ...(data.start && { exact, zone, nulls }), ...(data.look && trainer.look()) };
  postMessage({ ...reply, training: trained - begun, looking: performance.now() - trained });
};
