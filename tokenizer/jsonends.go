package tokenizer

import "fmt"

// readEnds finds the tokens that are put before and after a text.
func (v *jsonVocab) readEnds(file *tokenizerJSON) error {
	processors, err := v.flatten("post-processor", file.PostProcessor)
	if err != nil {
		return err
	}
	var before, after []ID
	for _, p := range processors {
		switch p.Type {
		case "ByteLevel":
		case "TemplateProcessing":
			texts := 0
			for _, piece := range p.Single {
				if piece.Sequence != nil {
					texts++
				}
				if piece.SpecialToken == nil {
					continue
				}
				ids := p.SpecialTokens[piece.SpecialToken.ID].IDs
				if len(ids) != 1 {
					return fmt.Errorf("%w: %s of a template with %d ids", ErrUnsupported, quote(piece.SpecialToken.ID), len(ids))
				}
				if texts > 0 {
					after = append(after, ids[0])
				} else {
					before = append(before, ids[0])
				}
			}
			if texts != 1 {
				return fmt.Errorf("%w: a template with %d texts", ErrUnsupported, texts)
			}
		case "BertProcessing", "RobertaProcessing":
			for _, end := range []struct {
				token []any
				to    *[]ID
			}{{p.CLS, &before}, {p.SEP, &after}} {
				if len(end.token) != 2 {
					return fmt.Errorf("%w: %s without cls or sep", ErrVocabulary, p.Type)
				}
				id, ok := end.token[1].(float64)
				if !ok || id < 0 || id >= float64(len(v.tokens)) {
					return fmt.Errorf("%w: %s with the token %v", ErrVocabulary, p.Type, end.token[1])
				}
				*end.to = append(*end.to, ID(id))
			}
		default:
			return p.unsupported("post-processor")
		}
	}
	if len(before) > 1 || len(after) > 1 {
		return fmt.Errorf("%w: several tokens before or after a text", ErrUnsupported)
	}
	addBOS, addEOS := len(before) > 0, len(after) > 0
	v.AddBOS, v.AddEOS = &addBOS, &addEOS
	if addBOS {
		v.BOS = before[0]
	}
	if addEOS {
		v.EOS = after[0]
	}
	return nil
}
