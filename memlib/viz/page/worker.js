// One network in a worker of its own. It answers each message once, so that two of them stay in lockstep.

const schedule = scheduleNamed("linear", SETTINGS.T);

function startTrainer({ train, heldOut, curve, p, seed }) {
  const { T, batch, samples, samplerSteps, noise, threshold } = SETTINGS;
  const network = new Network(SETTINGS);
  network.initialise(randomFrom(seed));
  const random = randomFrom(seed + 1000); // the same draws for both networks
  const cumulative = running(p);
  const [index, t, eps] = [new Int32Array(batch), new Int32Array(batch), new Float64Array(2 * batch)];
  const start = randomFrom(seed + 2000).normals(2 * samples); // x_T of the samples
  const fixed = randomFrom(7);
  const tests = Array.from({ length: 20 }, (_, i) => ({ t: 50 * i, eps: fixed.normals(heldOut.length) }));
  const pick = () => curve[Math.floor(fixed.uniform() * curve.length)].map((x) => x + noise * fixed.normal());
  const fresh = Array.from({ length: 512 }, pick).flat(); // what copies nothing
  const about = {
    exact: ddim(exactDenoiser(train, schedule), schedule, start, samplerSteps),
    zone: dangerZone(train, schedule),
    nulls: { copies: nearCopies(fresh, train, threshold), off: offCurve(fresh, curve) },
  };
  function advance() {
    for (let i = 0; i < batch; i++) {
      index[i] = Math.floor((random.uniform() * train.length) / 2);
      const u = random.uniform() * cumulative[T - 1];
      t[i] = cumulative.findIndex((sum) => sum > u);
    }
    for (let i = 0; i < eps.length; i++) eps[i] = random.normal();
    network.learn(train, schedule.alphaBar, index, t, eps);
  }
  // The reverse process of the averaged weights, and three measures.
  function look() {
    const predict = (x, t) => network.forward(x, Array(x.length / 2).fill(t), x.length / 2).subarray(0, x.length);
    const frames = ddim(predict, schedule, start, samplerSteps);
    const made = frames[samplerSteps];
    const losses = tests.map(({ t, eps }) => {
      const out = predict(noised(heldOut, eps, schedule.alphaBar[t]), t);
      return mean(eps.map((e, i) => (out[i] - e) ** 2));
    });
    const copies = nearCopies(made, train, threshold);
    return { frames, seen: { copies, off: offCurve(made, curve), loss: mean(losses) } };
  }
  return { about, advance, look };
}

let trainer;
onmessage = ({ data: { start, steps, look } }) => {
  if (start) trainer = startTrainer(start);
  for (let step = 0; step < steps; step++) trainer.advance();
  postMessage({ ...(start && trainer.about), ...(look && trainer.look()) });
};
