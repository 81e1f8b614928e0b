// The form that tries a model.

const MANY = 512; // numbers; more are not written into a form, and not all shown

function fillForm(card, inputs) {
  const fields = inputs.map(input => ({input, ...inputFields(input)}));
  const button = element("button", {}, "Send");
  const status = element("span", {className: "quiet"});
  const result = element("div", {className: "result"});
  result.setAttribute("aria-live", "polite");
  card.form.replaceChildren(element("h3", {}, "Try it"), ...fields.map(field => field.root), button, status, result);
  card.form.onsubmit = async event => {
    event.preventDefault();
    button.disabled = true;
    status.textContent = "";
    try {
      const body = `{"inputs":[${fields.map(tensorOf).join(",")}]}`;
      const began = performance.now();
      const response = await request(`${pathOf(card)}/infer`, {method: "POST", body});
      const text = await response.text();
      status.textContent = `${response.status}, ${(performance.now() - began).toFixed(1)} ms`;
      result.replaceChildren(...(response.ok ? outputs(text) : [failure(sentence(text, response))]));
    } catch (error) {
      result.replaceChildren(failure(error.message));
    }
    button.disabled = false;
    refresh();
  };
}

function inputFields(input) {
  const sizes = input.shape.map(size => size < 0 ? 1 : size);
  const shape = element("input", {value: sizes.join(", "), inputMode: "numeric", spellcheck: false});
  const data = element("textarea", {value: example(sizes), spellcheck: false});
  const root = element("fieldset", {}, element("legend", {}, `${input.name} (${input.datatype})`),
    element("label", {}, "Shape", shape), element("label", {}, "Data: JSON; one number fills the shape", data));
  return {shape, data, root};
}

const product = sizes => sizes.reduce((count, size) => count * size, 1);

function example(sizes) {
  if (product(sizes) > MANY || !sizes.length) return "0";
  return nested(Array(product(sizes)).fill("0"), sizes);
}

function nested(texts, sizes) {
  if (sizes.length < 2 || !texts.length) return `[${texts.join(", ")}]`;
  const step = texts.length / sizes[0];
  const parts = Array.from({length: sizes[0]}, (_, n) => nested(texts.slice(n * step, (n + 1) * step), sizes.slice(1)));
  return `[${parts.join(",\n ")}]`;
}

// The data goes as it was typed: a number of JavaScript could not hold every INT64.
function tensorOf({input, shape, data}) {
  const sizes = shape.value.split(/[\s,]+/).filter(Boolean).map(Number);
  if (!sizes.every(size => Number.isInteger(size) && size >= 0)) {
    throw new Error(`The shape of ${input.name} must be numbers with commas between them.`);
  }
  let text = data.value.trim();
  let given;
  try {
    given = JSON.parse(text);
  } catch (error) {
    throw new Error(`The data of ${input.name} is not JSON: ${error.message}`);
  }
  if (!Array.isArray(given)) {
    if (product(sizes) > 1e7) throw new Error(`The shape of ${input.name} is too large for a form.`);
    text = `[${Array(product(sizes)).fill(text)}]`;
  }
  const head = JSON.stringify({name: input.name, datatype: input.datatype, shape: sizes});
  return `${head.slice(0, -1)},"data":${text}}`;
}

function outputs(text) {
  // Long integers as text, so that they are shown as they came.
  const answer = JSON.parse(text.replace(/(?<=[[,])-?\d{16,}(?=[,\]])/g, '"$&"'));
  return answer.outputs.flatMap(output => [
    element("h3", {}, `${output.name} (${output.datatype} ${shapeText(output.shape)})`),
    element("pre", {}, dataText(output)),
  ]);
}

function dataText({data, shape}) {
  const texts = data.map(String);
  if (texts.length <= MANY) return shape.length ? nested(texts, shape) : texts[0];
  return `${texts.slice(0, MANY).join(", ")} … and ${number(texts.length - MANY)} more`;
}
